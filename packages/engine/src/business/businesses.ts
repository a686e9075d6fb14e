import type { BusinessId, BusinessName } from '@carillon/contract';
import { type Database, discover } from '../db/database.ts';
import { keysetPage, type Page } from '../run/read.ts';

/** All businesses by number: for system administrators, who need to know whom they may enter, and no more. */
export async function listBusinesses(
  db: Database,
  options: { after?: BusinessId | undefined; limit: number },
): Promise<Page<BusinessName>> {
  const rows = await discover<BusinessName>(
    db,
    'SELECT business_id, name FROM carillon.businesses WHERE NOT canary AND business_id > $1 ORDER BY business_id LIMIT $2',
    [options.after ?? 0, options.limit + 1],
  );
  return keysetPage(rows, options.limit, ({ business_id }) => String(business_id));
}
