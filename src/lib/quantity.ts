/** Kubernetes' resource quantities, as far as they are numbers of bytes: `10Gi`, `1.5G`, `1073741824`, `1e9`. */

const binarySuffixes = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'] as const;
const decimalExponents: Record<string, number> = { n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };

const pattern = /^\+?(\d+(?:\.\d*)?|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d{1,3})?$/;
/** Longer ones are refused before they are calculated with. */
const maxLength = 64;

/**
 * The bytes of a quantity, a part of a byte counting as a whole one, as Kubernetes rounds. Undefined where it is no
 * quantity, negative, or more than a number holds exactly (8 PiB).
 */
export function parseQuantity(text: string): number | undefined {
  const match = text.length <= maxLength ? pattern.exec(text) : null;
  if (!match) return undefined;
  const [, number = '', suffix = ''] = match;
  const [whole = '', fraction = ''] = number.split('.');
  const binary = binarySuffixes.indexOf(suffix as (typeof binarySuffixes)[number]);
  const exponent = (binary >= 0 ? 0 : decimalExponent(suffix)) - fraction.length;
  const mantissa = BigInt(whole + fraction) << BigInt(10 * Math.max(binary, 0));
  const bytes = exponent >= 0 ? mantissa * 10n ** BigInt(exponent) : divide(mantissa, 10n ** BigInt(-exponent), 'up');
  return bytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(bytes) : undefined;
}

/** The shortest quantity that is exactly `bytes`: `10Gi`, `1536Ki`, `1000`. */
export function formatQuantity(bytes: number): string {
  let value = bytes;
  let suffix = 0;
  while (value !== 0 && value % 1024 === 0 && suffix < binarySuffixes.length - 1) {
    value /= 1024;
    suffix++;
  }
  return `${value}${binarySuffixes[suffix]}`;
}

/**
 * `bytes` with three digits, for what is looked at and changes all the time: `1.38Gi`, `204Mi`.
 *
 * @param direction whether more or less than `bytes` is said where three digits do not do; at most 1 % of it
 */
export function formatRoundedQuantity(bytes: number, direction: 'up' | 'down'): string {
  if (bytes < 1024) return String(bytes);
  const suffix = Math.min(Math.floor(Math.log2(bytes) / 10), binarySuffixes.length - 1);
  const unit = 1024n ** BigInt(suffix);
  const whole = BigInt(bytes) / unit;
  const decimals = whole >= 100n ? 0 : whole >= 10n ? 1 : 2;
  const scaled = divide(BigInt(bytes) * 10n ** BigInt(decimals), unit, direction);
  return `${Number(scaled) / 10 ** decimals}${binarySuffixes[suffix]}`;
}

function decimalExponent(suffix: string): number {
  return decimalExponents[suffix] ?? Number(suffix.slice(1));
}

function divide(value: bigint, by: bigint, direction: 'up' | 'down'): bigint {
  return direction === 'up' ? (value + by - 1n) / by : value / by;
}
