import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const ROOT = path.dirname(import.meta.dirname);

/** What a trial was of: the commit, and whether anything was changed since. Null where there is no checkout, or no git. */
export async function describeVersion(dir: string = ROOT): Promise<string | null> {
  // A directory inside of somebody else's checkout is none.
  if (!existsSync(path.join(dir, '.git'))) return null;
  try {
    const { stdout } = await run('git', ['--no-optional-locks', '-C', dir, 'describe', '--always', '--dirty']);
    return stdout.trim() || null;
  } catch {
    return null;
  }
}
