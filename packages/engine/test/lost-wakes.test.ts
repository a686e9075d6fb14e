import { BusinessId } from '@carillon/contract';
import { expect, it } from 'vitest';
import { openDatabase } from '../src/db/database.ts';
import { createWaker, lostWakes } from '../src/db/wake.ts';

it('a wake-up that can not be sent is counted, and told to whoever asked for it', async () => {
  const db = openDatabase({ app_url: 'postgres://nobody:x@127.0.0.1:1/nowhere', connect_timeout_ms: 2_000 });
  const told: unknown[] = [];
  const waker = createWaker(db, 1, (error) => void told.push(error));
  const before = lostWakes.count;
  waker.wake(BusinessId.parse(1));
  await waker.close();
  expect(lostWakes.count).toBe(before + 1);
  expect(told).toHaveLength(1);
  await db.close();
});
