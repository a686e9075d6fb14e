import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chown, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';

/** Copies a directory as it is, owners included. Files that vanish meanwhile are none that a backup needs. */
async function copy(from: string, to: string): Promise<void> {
  const child = spawn('cp', ['-a', '-T', from, to], { stdio: 'ignore' });
  await once(child, 'close');
}

/** A cluster's directory, and where a backup of it lies. */
export interface Backup {
  directory: string;
  at: string;
}

/** A copy of a stopped server's files: a snapshot of the disk. */
export async function copyStopped(backup: Backup): Promise<void> {
  await rm(backup.at, { recursive: true, force: true });
  await copy(backup.directory, backup.at);
}

/** As what the copy of a running server is started. */
export interface StartedAs {
  signal: 'recovery.signal' | 'standby.signal';
  settings: string;
}

/** It recovers from the log that it has and begins another timeline, as a recovery to a point in time does. */
const RECOVERED: StartedAs = { signal: 'recovery.signal', settings: "restore_command = 'false'" };

/** A base backup of a server under load, with the log up to its end. */
export async function copyRunning(
  superuser_url: string,
  backup: Backup,
  { signal, settings }: StartedAs = RECOVERED,
): Promise<void> {
  await rm(backup.at, { recursive: true, force: true });
  const client = new Client({ connectionString: superuser_url });
  await client.connect();
  await client.query(`SELECT pg_backup_start('test', true)`);
  await copy(backup.directory, backup.at);
  const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)');
  await copy(path.join(backup.directory, 'pg_wal'), path.join(backup.at, 'pg_wal'));
  await client.end();
  await rm(path.join(backup.at, 'postmaster.pid'), { force: true });
  const { uid, gid } = await stat(backup.directory);
  for (const [name, text] of [
    ['backup_label', rows[0]?.labelfile ?? ''],
    [signal, ''],
  ] as const) {
    const file = path.join(backup.at, name);
    await writeFile(file, text, { mode: 0o600 });
    // The server runs as another user where the tests run as root.
    await chown(file, uid, gid);
  }
  await appendFile(path.join(backup.at, 'postgresql.auto.conf'), `\n${settings}\n`);
}

/** Puts a backup in the place of a stopped server's files. */
export async function putBack(backup: Backup): Promise<void> {
  await rm(backup.directory, { recursive: true, force: true });
  await copy(backup.at, backup.directory);
}
