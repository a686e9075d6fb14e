import { ALL_SETTINGS } from './config-table.ts';

const COLUMNS = 96;
const INDENT = '      ';

/** The environment, as `carillon --help` shows it: from the table by which it is read. */
export function environmentHelp(): string {
  return [
    '',
    'Environment (a variable that is set to nothing counts as unset; with neither DATABASE_URL nor',
    'CARILLON_OWNER_DATABASE_URL every command uses the embedded database of the data directory):',
    '',
    ...ALL_SETTINGS.flatMap(({ name, unit, default: value, about }) => [
      ...wrap(`${name} (${unit}; default: ${value})`, '  '),
      ...wrap(about, INDENT),
    ]),
    '',
    'Exit codes: 0 done, 1 failed, 2 wrong use or configuration. NO_COLOR switches colours off.',
  ].join('\n');
}

function wrap(text: string, indent: string): string[] {
  const lines = [indent];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? indent;
    const begun = line.trim() !== '';
    if (begun && line.length + 1 + word.length > COLUMNS) lines.push(INDENT + word);
    else lines[lines.length - 1] = begun ? `${line} ${word}` : line + word;
  }
  return lines;
}
