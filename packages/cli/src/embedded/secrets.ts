import { randomBytes } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { EmbeddedError } from './embedded-error.ts';

const SECRETS = z.object({
  superuser_password: z.string().min(1),
  owner_password: z.string().min(1),
  app_password: z.string().min(1),
  /** CARILLON_SECRET: 32 bytes in base64. */
  carillon_secret: z.base64().length(44),
});

export type Secrets = z.infer<typeof SECRETS>;

/** Reads `<dataDir>/secrets.json`; makes it where it is missing and `mayCreate`, that is before there is a cluster. */
export async function loadSecrets(dataDir: string, mayCreate: boolean): Promise<Secrets> {
  const file = path.join(dataDir, 'secrets.json');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new EmbeddedError('secrets_unreadable', `${file} can't be read: ${error.message}`, error);
  });
  if (text !== undefined) return parse(file, text);
  if (!mayCreate)
    throw new EmbeddedError(
      'secrets_missing',
      `${file} is missing, and without its passwords the database beside it can't be opened; restore the file, or choose another data directory`,
    );
  const secrets: Secrets = {
    superuser_password: randomBytes(24).toString('base64url'),
    owner_password: randomBytes(24).toString('base64url'),
    app_password: randomBytes(24).toString('base64url'),
    carillon_secret: randomBytes(32).toString('base64'),
  };
  await writeDurably(file, `${JSON.stringify(secrets, undefined, 2)}\n`);
  return secrets;
}

function parse(file: string, text: string): Secrets {
  try {
    return SECRETS.parse(JSON.parse(text));
  } catch (error) {
    throw new EmbeddedError(
      'secrets_unreadable',
      `${file} is damaged (it should hold four texts: ${Object.keys(SECRETS.shape).join(', ')}); restore it`,
      error,
    );
  }
}

/** The file is there whole or not at all, after a power cut too; readable by its owner only. */
async function writeDurably(file: string, text: string): Promise<void> {
  const handle = await open(`${file}.new`, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${file}.new`, file);
}
