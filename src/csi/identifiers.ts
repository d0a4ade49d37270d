/**
 * What identifies the subject of a request, and may be logged. A list of what is known to be harmless: secrets, mount
 * flags (which may hold some) and contexts never get into the log.
 */
const loggedFields = [
  'name',
  'volumeId',
  'snapshotId',
  'sourceVolumeId',
  'stagingTargetPath',
  'targetPath',
  'volumePath',
] as const;

const maxLoggedLength = 256;

export function identifiersOf(request: unknown): Record<string, string> {
  const identifiers: Record<string, string> = {};
  if (typeof request !== 'object' || request === null) return identifiers;
  for (const field of loggedFields) {
    const value = (request as Record<string, unknown>)[field];
    if (typeof value === 'string' && value !== '') identifiers[field] = value.slice(0, maxLoggedLength);
  }
  return identifiers;
}
