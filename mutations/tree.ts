import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Edit } from './mutant.ts';

export const ROOT = path.dirname(import.meta.dirname);

/** A copy of the repository in which something may be broken on purpose. */
export interface PlantedTree {
  root: string;
  /** Breaks one thing. Throws where `find` does not stand exactly once, and while something else is broken. */
  apply(edit: Edit): Promise<void>;
  /** Mends it. */
  restore(): Promise<void>;
  remove(): Promise<void>;
}

const NOT_COPIED = new Set(['.git', 'node_modules', 'carillon-data', '.carillon', 'coverage']);

/**
 * Copies the repository as it lies here into a temporary directory. Its packages are the copy's own, everything that is
 * installed is the original's: Node looks for a module where the real file lies.
 */
export async function plantedTree(): Promise<PlantedTree> {
  const root = await realpath(await mkdtemp(path.join(tmpdir(), 'carillon-planted-')));
  await cp(ROOT, root, { recursive: true, filter: (from) => !NOT_COPIED.has(path.basename(from)) });
  await linkModules(root);
  let broken: { file: string; text: string } | null = null;
  return {
    root,
    async apply(edit) {
      if (broken) throw new Error(`${broken.file} is still broken`);
      const file = path.join(root, edit.file);
      const text = await readFile(file, 'utf8');
      broken = { file, text };
      await writeFile(file, changed(text, edit));
    },
    async restore() {
      if (broken) await writeFile(broken.file, broken.text);
      broken = null;
    },
    remove: () => rm(root, { recursive: true, force: true, maxRetries: 5 }),
  };
}

/** The text of a file with the edit made. Throws where `find` does not stand exactly once. */
export function changed(text: string, { file, find, replace }: Edit): string {
  const times = text.split(find).length - 1;
  if (times !== 1) throw new Error(`${file} has this ${times} times, not once: ${find}`);
  return text.replace(find, () => replace);
}

async function linkModules(root: string): Promise<void> {
  const from = path.join(ROOT, 'node_modules');
  const to = path.join(root, 'node_modules');
  await mkdir(path.join(to, '@carillon'), { recursive: true });
  for (const name of await readdir(from)) {
    if (name === '@carillon') continue;
    // Its links are relative: they lead to the copy's own command line.
    if (name === '.bin')
      await cp(path.join(from, name), path.join(to, name), { recursive: true, verbatimSymlinks: true });
    else await symlink(path.join(from, name), path.join(to, name));
  }
  for (const name of await readdir(path.join(root, 'packages')))
    await symlink(path.join(root, 'packages', name), path.join(to, '@carillon', name));
}
