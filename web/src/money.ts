/** Money is bigint base units inside (1 EDU = 10^18) and decimal text outside; never a float. */

const DECIMALS = 18;
const EDU = 10n ** BigInt(DECIMALS);

/** What a lesson costs: the hourly rate times its minutes, rounded down, as the contract reckons. */
export function lessonWei(hourlyRateWei: bigint, minutes: number): bigint {
  return (hourlyRateWei * BigInt(minutes)) / 60n;
}

/** Base units as exact decimal text, without needless zeros: 17500000000000000000n is "17.5". */
export function toDecimal(wei: bigint): string {
  if (wei < 0n) return `-${toDecimal(-wei)}`;
  const fraction = (wei % EDU).toString().padStart(DECIMALS, "0").replace(/0+$/, "");
  return `${wei / EDU}${fraction && `.${fraction}`}`;
}

/** Decimal text as base units. Throws a `RangeError` for anything else, or for more than 18 decimals. */
export function toWei(decimal: string): bigint {
  const match = /^(\d+)(?:\.(\d{1,18}))?$/.exec(decimal);
  if (!match) throw new RangeError(`${decimal} is not an amount of EDU`);
  return BigInt(match[1]!) * EDU + BigInt((match[2] ?? "").padEnd(DECIMALS, "0"));
}

/** An exact amount as people write it: "1 234,5 EDU" in French, "1,234.5 EDU" in English. */
export function formatEdu(wei: bigint, locale: string): string {
  // Intl takes decimal text digit by digit (ECMA-402, 2023); TypeScript's type for it is newer than ES2022.
  const text = toDecimal(wei) as Intl.StringNumericLiteral;
  return `${new Intl.NumberFormat(locale, { maximumFractionDigits: DECIMALS }).format(text)}\u00a0EDU`;
}
