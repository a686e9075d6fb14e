import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** A lock on a file that the operating system takes back when its process ends, however that ends. */
export interface FileLock {
  release(): void;
}

const SQLITE_BUSY = 5;

/**
 * Tries to lock `<directory>/<name>.lock`, shared or for oneself; undefined when others hold it. SQLite does the locking
 * (fcntl or LockFileEx on a file without content), which Node itself can't. A file with a process id would need to tell
 * a live process from another one that got the same id after a crash, and two that both find it stale.
 */
export function tryLock(directory: string, name: string, mode: 'shared' | 'exclusive'): FileLock | undefined {
  const db = new DatabaseSync(path.join(directory, `${name}.lock`), { timeout: 0 });
  try {
    // Nothing is ever written, so there is nothing to keep a journal of.
    db.exec('PRAGMA journal_mode = OFF');
    if (mode === 'exclusive') db.exec('BEGIN EXCLUSIVE');
    else {
      db.exec('BEGIN');
      // The first read takes the shared lock; the transaction keeps it.
      db.prepare('SELECT count(*) FROM sqlite_schema').get();
    }
    return { release: () => db.close() };
  } catch (error) {
    db.close();
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return undefined;
    throw error;
  }
}
