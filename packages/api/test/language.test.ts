import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROBLEMS_HE } from '@carillon/contract';
import { describe, expect, it } from 'vitest';

const PACKAGES = path.resolve(import.meta.dirname, '../..');
const SOURCES = ['contract', 'api', 'engine'].flatMap((name) => {
  const folder = path.join(PACKAGES, name, 'src');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  return files.map((file) => ({ name: `${name}/${file}`, text: readFileSync(path.join(folder, file), 'utf8') }));
});

/** Words of ours that say what is wrong with input: of schemas, and of what is thrown. */
const WORDS = /(?:\berror|\bmessage|\bproblem): '([^'\n]+)'|\.regex\(.*, '([^'\n]+)'\)/g;
/** What is not said to a person who asked for Hebrew. */
const NOT_SAID: Record<string, string> = {
  'Run not found': 'an example in the description of the API',
  'it is no status callback of this carrier': 'said to carriers',
  'taken over': 'of an import, in the database',
};

describe('what is wrong with input', () => {
  const said = SOURCES.filter(({ name }) => !/errors\.ts|hebrew\.ts/.test(name) || name === 'api/errors.ts').flatMap(
    ({ text }) => [...text.matchAll(WORDS)].map(([, thrown, pattern]) => thrown ?? pattern ?? ''),
  );

  it('is said in Hebrew too, wherever the words are ours', () => {
    expect(said.length).toBeGreaterThan(10);
    expect(said.filter((words) => !(words in PROBLEMS_HE) && !(words in NOT_SAID))).toEqual([]);
    for (const hebrew of Object.values(PROBLEMS_HE)) expect(hebrew).toMatch(/[א-ת]/);
  });

  it('has no Hebrew for words that nobody says any more', () => {
    expect(Object.keys(PROBLEMS_HE).filter((words) => !said.includes(words))).toEqual([]);
  });
});
