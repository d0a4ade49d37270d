/** For how long something is so, as kubectl shows ages: `45s`, `12m`, `5h`, `3d`. */
export function formatAge(since: string, now: Date): string {
  const seconds = Math.max(0, Math.floor((now.getTime() - Date.parse(since)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

/** Columns as wide as their widest cell, the first row being the heading. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const line = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('   ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}

/** Parts of a whole as a bar: each has a character, and what is left a dot. */
export function formatBar(parts: readonly { share: number; character: string }[], width: number): string {
  let bar = '';
  let sum = 0;
  for (const { share, character } of parts) {
    sum += share;
    bar = bar.padEnd(Math.min(width, Math.round(sum * width)), character);
  }
  return bar.padEnd(width, '·');
}
