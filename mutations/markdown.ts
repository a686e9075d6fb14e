import { AREAS } from './list.ts';
import type { Catcher } from './mutant.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|').replace(/\s+/g, ' ');

function caughtBy({ test, title }: Catcher): string {
  const file = test.replace(/^packages\//, '').replace('/test/', '/');
  return title === undefined ? `\`${file}\`` : `\`${file}\`: ${cell(title)}`;
}

/** The list as it stands in docs/mutations.md: a table for each area, and what no test can tell. */
export function inMarkdown(): string {
  return AREAS.map(({ title, mutants, equivalents }) => {
    const rows = mutants.map(({ name, what, catcher }) => `| ${name} | ${cell(what)} | ${caughtBy(catcher)} |`);
    const same = equivalents.map(({ file, what, why }) => `- ${what} (\`${file}\`): ${why}`);
    return [
      `### ${title}`,
      '',
      '| mutant | what is removed | caught by |',
      '|---|---|---|',
      ...rows,
      ...(same.length > 0 ? ['', 'Not mutated, because nobody could tell:', '', ...same] : []),
    ].join('\n');
  }).join('\n\n');
}
