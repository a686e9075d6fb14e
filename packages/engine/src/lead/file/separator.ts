const SEPARATORS = [',', ';', '\t', '|'] as const;
const LINES = 20;

/**
 * Recognises what separates the values of a file by its beginning. Excel's own first line (`sep=;`) is believed.
 * Otherwise, of those that divide any line, the one that `isHeader` knows a line by wins; then the one that divides the
 * most lines into equally many values. A file of one column has none: a comma then.
 */
export function recogniseSeparator(text: string, isHeader: (fields: string[]) => boolean): string {
  const lines = text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .filter((line) => line.trim() !== '')
    .slice(0, LINES);
  const said = SEPARATOR_LINE.exec(lines[0] ?? '')?.[1];
  if (said) return said;
  const judged = SEPARATORS.map((separator) => {
    const records = lines.map((line) => divide(line, separator));
    const counts = records.map((fields) => fields.length);
    const usual = mostFrequent(counts.filter((count) => count > 1));
    return {
      separator,
      known: records.some((fields) => fields.length > 1 && isHeader(fields)),
      agreeing: counts.filter((count) => count === usual).length,
      usual: usual ?? 1,
    };
  }).filter(({ usual }) => usual > 1);
  const [best] = judged.sort(
    (a, b) => Number(b.known) - Number(a.known) || b.agreeing - a.agreeing || b.usual - a.usual,
  );
  return best?.separator ?? ',';
}

/** The line with which Excel tells itself the separator. It is no line of the list. */
export const SEPARATOR_LINE = /^"?sep=([,;\t|])"?,*$/i;

/** A line's values, roughly: enough to recognise it. A quote counts where a value begins. */
function divide(line: string, separator: string): string[] {
  const fields: string[] = [];
  let field = '';
  let quoted = false;
  for (const char of line) {
    if (char === '"' && (quoted || field === '')) quoted = !quoted;
    else if (char === separator && !quoted) {
      fields.push(field);
      field = '';
    } else field += char;
  }
  return [...fields, field];
}

function mostFrequent(values: readonly number[]): number | undefined {
  const groups = [...Map.groupBy(values, (value) => value)];
  return groups.sort(([a, as], [b, bs]) => bs.length - as.length || b - a)[0]?.[0];
}
