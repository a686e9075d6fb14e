import { type ApiKey, type BusinessId, KeyId, type Role, type SystemKey, SystemKeyId } from '@carillon/contract';
import {
  createKey,
  createSystemKey,
  type Database,
  listKeys,
  listSystemKeys,
  revokeKey,
  revokeSystemKey,
} from '@carillon/engine';
import { CLI } from '../actor.ts';
import type { CommandContext } from '../context.ts';
import { wrongUse } from '../errors.ts';
import { withDatabase } from '../installation.ts';
import { table } from '../output.ts';

/** With a business its keys are meant; without one, the system administrators'. */
interface Whose {
  business?: BusinessId;
}

export async function keyCreateCommand(
  context: CommandContext,
  options: Whose & { role: Role; label?: string },
): Promise<void> {
  const { output } = context;
  const { business, role, label } = options;
  const create = creator(role, business);
  const { key } = await withDatabase(context, (db) => create(db, label));
  const whose = business === undefined ? '' : ` for business ${business}`;
  output.say(`A key of role ${role}${whose}, shown only now: ${key}`);
  output.result({ key });
}

type Create = (db: Database, label?: string) => Promise<{ key: string }>;

function creator(role: Role, business: BusinessId | undefined): Create {
  if (role === 'system_admin') {
    if (business === undefined) return (db, label) => createSystemKey(db, { label }, CLI);
    throw wrongUse('wrong_use', 'A system administrator belongs to no business; leave --business out');
  }
  if (business !== undefined) return (db, label) => createKey(db, business, { role, label }, CLI);
  throw wrongUse('wrong_use', `A key of role ${role} belongs to a business; name it with --business`);
}

export async function keyRevokeCommand(context: CommandContext, { business }: Whose, key_id: number): Promise<void> {
  const { output } = context;
  const key = await withDatabase(context, async (db) =>
    business === undefined
      ? await revokeSystemKey(db, SystemKeyId.parse(key_id), CLI)
      : await revokeKey(db, business, KeyId.parse(key_id), CLI),
  );
  output.say(`Key ${key_id} opens nothing any more.`);
  output.result(key);
}

const PAGE_ITEMS = 100;

export async function keyListCommand(
  context: CommandContext,
  { business, after }: Whose & { after?: number },
): Promise<void> {
  const { output } = context;
  const page = await withDatabase(context, async (db) =>
    business === undefined
      ? await listSystemKeys(db, { after: SystemKeyId.optional().parse(after), limit: PAGE_ITEMS })
      : await listKeys(db, business, { after: KeyId.optional().parse(after), limit: PAGE_ITEMS }),
  );
  const items: (ApiKey | SystemKey)[] = page.items;
  const rows = items.map((key) => [
    String(key.key_id),
    'role' in key ? key.role : 'system_admin',
    key.state,
    key.created_at,
    key.expires_at ?? 'never',
    key.label,
  ]);
  if (rows.length === 0) output.say('There are no keys.');
  else for (const line of table([['ID', 'ROLE', 'STATE', 'CREATED', 'EXPIRES', 'LABEL'], ...rows])) output.say(line);
  if (page.next) output.say(`There are more: --after ${page.next}`);
  output.result(page);
}
