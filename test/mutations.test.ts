import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { AREAS, MUTANTS } from '../mutations/list.ts';
import { inMarkdown } from '../mutations/markdown.ts';
import { changed } from '../mutations/tree.ts';
import { testTitles } from './tidy/guarantees.ts';
import { root } from './tidy/source.ts';

const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

describe('the list of mutants', () => {
  it('is of things that are there, each once: what is taken away stands in one place of its file', () => {
    const lost = MUTANTS.flatMap((mutant) => {
      try {
        return changed(read(mutant.file), mutant) === read(mutant.file) ? [`${mutant.name} changes nothing`] : [];
      } catch (error) {
        return [`${mutant.name}: ${String(error)}`];
      }
    });
    expect(lost, lost.join('\n')).toEqual([]);
    for (const { file } of AREAS.flatMap(({ equivalents }) => equivalents))
      expect(existsSync(path.join(root, file))).toBe(true);
  });

  it('names each mutant once, and a test that is there', () => {
    expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
    const titles = new Map<string, string[]>();
    const known = (test: string) => {
      const found = titles.get(test) ?? [...testTitles({ path: test, text: read(test) })];
      titles.set(test, found);
      return found;
    };
    const absent = MUTANTS.filter(
      ({ catcher: { test, title } }) =>
        !existsSync(path.join(root, test)) || (title !== undefined && !known(test).some((one) => fits(one, title))),
    );
    expect(absent.map(({ name }) => name)).toEqual([]);
  });

  it('is what docs/mutations.md says', () => {
    const [, table] =
      /<!-- the list -->\n\n([^]*?)\n\n<!-- the end of the list -->/.exec(read('docs/mutations.md')) ?? [];
    expect(table?.trim(), 'npm run mutate -- --list --markdown prints it').toBe(inMarkdown().trim());
  });
});

const PUT_IN = /%[a-z]|\$\w+|…/;

/** Whether a title is of this test: a part of its own, or the end of such a part and what is put in behind it. */
function fits(own: string, title: string): boolean {
  const parts = own.replaceAll(' › ', ' ').split(PUT_IN);
  const begins = (part: string) => [...part].some((_, at) => part.length - at > 3 && title.startsWith(part.slice(at)));
  return parts.some((part) => part.includes(title)) || parts.slice(0, -1).some(begins);
}
