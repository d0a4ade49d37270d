/** The middle of what was measured, with the lowest and the highest of it. */
export interface Summary {
  median: number;
  low: number;
  high: number;
  samples: number;
}

/** @throws RangeError where there is nothing to summarize */
export function summarize(values: readonly number[]): Summary {
  const sorted = sort(values);
  return {
    median: percentile(sorted, 50),
    low: at(sorted, 0),
    high: at(sorted, sorted.length - 1),
    samples: sorted.length,
  };
}

/**
 * A value that `percent` of `values` do not exceed, by linear interpolation between neighbours, so that the 50th is the
 * median as everybody computes it.
 * @throws RangeError where there are no values
 */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = sort(values);
  const position = (percent / 100) * (sorted.length - 1);
  const below = at(sorted, Math.floor(position));
  const above = at(sorted, Math.ceil(position));
  return below + (above - below) * (position - Math.floor(position));
}

/**
 * `values[i] / baseline[i]`: each figure against the one of its own round, so that what slows the whole machine down for
 * a while slows both.
 * @throws RangeError where they are not pairs
 */
export function ratios(values: readonly number[], baseline: readonly number[]): number[] {
  if (values.length !== baseline.length)
    throw new RangeError(`${values.length} values, ${baseline.length} of the baseline`);
  return values.map((value, index) => value / at(baseline, index));
}

function sort(values: readonly number[]): number[] {
  if (values.length === 0) throw new RangeError('nothing was measured');
  return values.toSorted((a, b) => a - b);
}

function at(values: readonly number[], index: number): number {
  const value = values[index];
  if (value === undefined) throw new RangeError(`no value ${index} of ${values.length}`);
  return value;
}
