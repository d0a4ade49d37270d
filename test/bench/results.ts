import { summarize, type Summary } from './statistics.ts';

/** What a figure must be; null where it is only told. */
export type Target = { atLeast: number } | { atMost: number } | { between: readonly [number, number] } | null;

/** One line of the table and of build/bench.json. */
export interface Result {
  name: string;
  value: number;
  unit: string;
  target: string | null;
  met: boolean | null;
  /** Of the rounds whose median `value` is; the same as `value` where there was one. */
  low: number;
  high: number;
  samples: number;
}

/** A result whose value is the median of what was measured. */
export function medianResult(name: string, unit: string, measured: readonly number[], target: Target = null): Result {
  return result(name, unit, summarize(measured), target);
}

export function result(
  name: string,
  unit: string,
  { median, low, high, samples }: Summary,
  target: Target = null,
): Result {
  return { name, value: round(median), unit, ...judge(median, target), low: round(low), high: round(high), samples };
}

function judge(value: number, target: Target): Pick<Result, 'target' | 'met'> {
  if (target === null) return { target: null, met: null };
  if ('atLeast' in target) return { target: `>= ${target.atLeast}`, met: value >= target.atLeast };
  if ('atMost' in target) return { target: `<= ${target.atMost}`, met: value <= target.atMost };
  const [low, high] = target.between;
  return { target: `${low} .. ${high}`, met: value >= low && value <= high };
}

/** Three digits that count; whole numbers stay whole. */
function round(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

/** The results as a table for people, numbers to the right. */
export function formatTable(results: readonly Result[]): string {
  const head = ['what', 'median', 'unit', 'low .. high', 'n', 'target', ''];
  const rows = results.map((line) => [
    line.name,
    String(line.value),
    line.unit,
    line.samples === 1 ? '' : `${line.low} .. ${line.high}`,
    String(line.samples),
    line.target ?? '',
    line.met === null ? '' : line.met ? 'met' : 'MISSED',
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)));
  const isNumber = (column: number) => column === 1 || column === 4;
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (isNumber(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** `17 of 18 targets met; missed: …` */
export function formatVerdict(results: readonly Result[]): string {
  const judged = results.filter(({ met }) => met !== null);
  const missed = judged.filter(({ met }) => met === false).map(({ name }) => name);
  return `${judged.length - missed.length} of ${judged.length} targets met${missed.length > 0 ? `; missed: ${missed.join('; ')}` : ''}`;
}
