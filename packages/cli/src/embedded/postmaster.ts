import { execFile } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

/** What a running server says of itself in postmaster.pid. */
export interface Postmaster {
  pid: number;
  port: number;
  ready: boolean;
}

export async function readPostmaster(directory: string): Promise<Postmaster | undefined> {
  const text = await readFile(path.join(directory, 'postmaster.pid'), 'utf8').catch(() => '');
  const lines = text.split('\n');
  const pid = Number(lines[0]);
  // Line 4 is the port, line 8 the state; they are written some time after the first.
  return Number.isInteger(pid) && pid > 0
    ? { pid, port: Number(lines[3] ?? 0), ready: lines[7]?.trim() === 'ready' }
    : undefined;
}

/**
 * Is that process the server of this directory, and alive? A process id alone says little: after a reboot, or in a
 * container, it may be anybody's.
 */
export async function isPostmaster(pid: number, directory: string): Promise<boolean> {
  if (process.platform === 'win32') return isAlive(pid);
  const command = process.platform === 'linux' ? await procCommand(pid) : await psCommand(pid);
  if (!command.includes('postgres')) return false;
  return command.includes(`-D ${directory} `) || (await worksIn(pid, directory));
}

/** The command line; of a zombie, and where there is no such process, nothing. Readable for everybody. */
async function procCommand(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.replaceAll('\0', ' ');
}

async function psCommand(pid: number): Promise<string> {
  const listing = await promisify(execFile)('ps', ['-ww', '-o', 'stat=,command=', '-p', String(pid)]).catch(() => ({
    stdout: '',
  }));
  return listing.stdout.trimStart().startsWith('Z') ? '' : listing.stdout;
}

/**
 * A server's working directory is its cluster's, also after somebody renamed that. Linux tells, to whoever may know
 * (in most containers root may not).
 */
async function worksIn(pid: number, directory: string): Promise<boolean> {
  const [theirs, ours] = await Promise.all(
    [`/proc/${pid}/cwd`, directory].map((file) => stat(file).catch(() => undefined)),
  );
  return !!theirs && !!ours && theirs.dev === ours.dev && theirs.ino === ours.ino;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * postmaster.pid names a process that is somebody else's by now. PostgreSQL would take that one for a running server and
 * refuse to start; so the file gets a process id that can't exist. The rest of it stays, because by that the server
 * finds out whether processes of a crashed one still use the shared memory.
 */
export async function disownPostmaster(directory: string): Promise<void> {
  const file = path.join(directory, 'postmaster.pid');
  const text = await readFile(file, 'utf8');
  await writeFile(file, text.replace(/^\d+/, '2147483646'));
}
