import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { systemClock } from '../clock.ts';
import type { Recollection } from './state.ts';

/** What a process remembers, kept beside the database and not in it: a restore does not bring it back. */
export interface MemoryFile {
  write(memory: Recollection): Promise<void>;
}

const SUFFIX = '.memory.json';

export async function openMemoryFile(directory: string, witness_id: string): Promise<MemoryFile> {
  await mkdir(directory, { recursive: true });
  const file = path.join(directory, `${witness_id.replaceAll(/[^\w.-]/g, '_')}${SUFFIX}`);
  return {
    async write(memory) {
      const fresh = `${file}.new`;
      await writeFile(fresh, JSON.stringify(memory));
      await rename(fresh, file);
    },
  };
}

/** What the processes of this directory remembered, not counting those that have been gone for `days` and broken files. */
export async function readMemories(directory: string, days: number): Promise<Recollection[]> {
  const memories: Recollection[] = [];
  for (const { file, age_days } of await listFiles(directory)) {
    if (age_days > days) continue;
    const memory = await readFile(file, 'utf8').then(parse, () => null);
    if (memory) memories.push(memory);
  }
  return memories;
}

/** Removes the files of processes that have been gone for `days`. */
export async function forgetMemories(directory: string, days: number): Promise<void> {
  for (const { file, age_days } of await listFiles(directory)) if (age_days > days) await rm(file, { force: true });
}

const Memory = z.object({ witness_id: z.string(), beat: z.number().int(), restores: z.number().int() });

function parse(text: string): Recollection | null {
  try {
    return Memory.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

const DAY_MS = 86_400_000;

async function listFiles(directory: string): Promise<{ file: string; age_days: number }[]> {
  const names = await readdir(directory).catch(() => []);
  const files = names.filter((name) => name.endsWith(SUFFIX)).map((name) => path.join(directory, name));
  return await Promise.all(
    files.map(async (file) => {
      // Another process may just have removed it.
      const mtime_ms = await stat(file).then(
        (found) => found.mtimeMs,
        () => 0,
      );
      return { file, age_days: (systemClock.wallMs() - mtime_ms) / DAY_MS };
    }),
  );
}
