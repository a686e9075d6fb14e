/** What a spreadsheet would take for the beginning of a formula. */
const FORMULA = /^[=+\-@\t\r]/;

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
