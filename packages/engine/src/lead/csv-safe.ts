/** What a spreadsheet would take for the beginning of a formula; the wide forms count where East Asian input is on. */
const FORMULA = /^[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]/;

/**
 * One line of CSV, line end included, that a spreadsheet shows and never executes: values that look like formulas get
 * an apostrophe in front. Values with quotes, commas or line ends are quoted.
 */
export function csvSafeLine(values: readonly (string | number)[]): string {
  return `${values.map(safe).join(',')}\r\n`;
}

function safe(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
