import type { CapacityRange } from '../../gen/csi.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { SizeRange } from '../controller/disk-service.ts';
import { invalid } from './text.ts';

const maxBytes = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * A CSI capacity range as numbers; 0 is "not said", and no range at all says nothing.
 *
 * @throws LaminaError `invalid-parameter` where it contradicts itself, `size-out-of-range` where no volume can be that big
 */
export function parseCapacityRange(range: CapacityRange | undefined): SizeRange {
  if (!range) return { requiredBytes: 0, limitBytes: 0 };
  const { requiredBytes, limitBytes } = range;
  if (requiredBytes < 0n || limitBytes < 0n) {
    throw invalid(
      `capacity_range: required_bytes ${requiredBytes}, limit_bytes ${limitBytes}; neither may be negative`,
    );
  }
  if (limitBytes !== 0n && limitBytes < requiredBytes) {
    throw invalid(`capacity_range: limit_bytes ${limitBytes} is less than required_bytes ${requiredBytes}`);
  }
  if (requiredBytes > maxBytes) {
    throw new LaminaError(
      'size-out-of-range',
      `capacity_range: required_bytes ${requiredBytes} is more than the ${formatBytes(Number.MAX_SAFE_INTEGER)} that any volume can have`,
    );
  }
  // "At most as much as nobody has" is no limit to us, but no error either.
  const limit = limitBytes > maxBytes ? maxBytes : limitBytes;
  return { requiredBytes: Number(requiredBytes), limitBytes: Number(limit) };
}

/** @throws LaminaError `invalid-parameter` also where neither bound is given */
export function requireCapacityRange(range: CapacityRange | undefined): SizeRange {
  const size = parseCapacityRange(range);
  if (size.requiredBytes === 0 && size.limitBytes === 0) {
    throw invalid('capacity_range is required, with required_bytes or limit_bytes');
  }
  return size;
}
