import type { Equivalent, Mutant } from '../mutant.ts';

const ACCOUNT = 'packages/engine/src/business/carrier-accounts.ts';
const ERASE = 'packages/engine/src/lead/erase.ts';
const IMPORT = 'packages/engine/src/lead/import-state.ts';
const KEYS = 'packages/engine/src/business/keys.ts';
const KNOWN = 'packages/engine/src/adopt/known.ts';
const LISTS = 'packages/engine/src/lead/lists.ts';
const MAKE = 'packages/engine/src/adopt/make-run.ts';
const STAGE = 'packages/engine/src/adopt/stage.ts';
const UPDATE = 'packages/engine/src/lead/update-leads.ts';
const ACCOUNTS = 'packages/engine/test/carrier-accounts.test.ts';
const ADOPTS = 'packages/engine/test/adopt-kill.test.ts';
const BEHIND = 'packages/engine/test/behind-locks.test.ts';
const ERASES = 'packages/engine/test/erase.test.ts';
const FAULTS = 'packages/engine/test/import-faults.test.ts';
const IMPORTED = 'packages/engine/test/import.test.ts';
const ORDERS = 'packages/engine/test/orders.test.ts';

export const leadMutants: Mutant[] = [
  {
    name: 'erase-runs-lock',
    what: 'the lock on the runs of a lead that is erased',
    file: ERASE,
    find: 'ORDER BY business_id, run_id FOR NO KEY UPDATE`',
    replace: 'ORDER BY business_id, run_id`',
    catcher: { test: BEHIND, title: 'a lead is not erased whose call is begun meanwhile' },
  },
  {
    name: 'erase-runs-order',
    what: 'ORDER BY: runs are locked in the order of their keys',
    file: ERASE,
    find: 'ORDER BY business_id, run_id FOR NO KEY UPDATE`',
    replace: 'FOR NO KEY UPDATE`',
    catcher: { test: ORDERS, title: 'runs are locked in the order of their keys by an erasure' },
  },
  {
    name: 'erase-lead-lock',
    what: 'the lock on a lead that is erased: a run takes it up meanwhile',
    file: 'packages/engine/src/lead/view.ts',
    find: '`${LEAD} FOR UPDATE`',
    replace: 'LEAD',
    catcher: { test: ERASES, title: 'waits for a run that is just taking the lead up' },
  },
  {
    name: 'erase-run-taken-up',
    what: 'the second look at the runs, behind the lock on the lead',
    file: ERASE,
    find: 'if (jobs.some(({ run_id }) => !runs.has(run_id))) return null;',
    replace: '',
    catcher: { test: ERASES, title: 'waits for a run that is just taking the lead up' },
  },
  {
    name: 'erase-twice',
    what: 'the look whether somebody else has erased the lead meanwhile',
    file: ERASE,
    find: 'if (lead.erased_at) return null;',
    replace: '',
    catcher: { test: BEHIND, title: 'a lead is not erased again that is erased meanwhile' },
  },
  {
    name: 'erase-open-call',
    what: 'that a lead whose call is open is not erased',
    file: ERASE,
    find: '  await refuseOpenCalls(tx, lead_id);\n',
    replace: '',
    catcher: { test: ERASES, title: 'is refused while a call is open' },
  },
  {
    name: 'import-list-lock',
    what: 'the lock on a list that is imported into',
    file: IMPORT,
    find: 'WHERE business_id = $1 AND list_id = $2 FOR NO KEY UPDATE',
    replace: 'WHERE business_id = $1 AND list_id = $2',
    catcher: { test: BEHIND, title: 'an import sees the import that begins meanwhile' },
  },
  {
    name: 'import-fence',
    what: 'the fence of an import: one that was taken over writes on',
    file: IMPORT,
    find: "if (list.import_id !== fence.import_id) throw new CarillonError('import_in_progress');",
    replace: '',
    catcher: { test: FAULTS, title: 'the first, waking, is fenced off' },
  },
  {
    name: 'import-alive',
    what: 'that an import which is alive is not taken over',
    file: IMPORT,
    find: "if (row?.state === 'running' && !row.stale) throw new CarillonError('import_in_progress');",
    replace: '',
    catcher: { test: FAULTS, title: 'at once: one goes on, the others are told' },
  },
  {
    name: 'import-of-a-time-to-come',
    what: 'an import that was touched before the clock was set back',
    file: IMPORT,
    find: "touched_at NOT BETWEEN now() - $3 * interval '1 ms' AND now() + interval '2 s' AS stale",
    replace: "touched_at < now() - $3 * interval '1 ms' AS stale",
    catcher: {
      test: 'packages/engine/test/clock-set-back.test.ts',
      title: 'and whose process is gone does not keep its list for an hour',
    },
  },
  {
    name: 'import-failed-once',
    what: 'that an import which was taken over lets go of nothing',
    file: IMPORT,
    find: "WHERE business_id = $1 AND list_id = $2 AND import_id = $3', [",
    replace: "WHERE business_id = $1 AND list_id = $2 AND $3::bigint > 0', [",
    catcher: { test: FAULTS, title: 'the first, waking, is fenced off' },
  },
  {
    name: 'import-leads-order',
    what: 'ORDER BY: leads are locked in the order of their numbers',
    file: UPDATE,
    find: '     ORDER BY new.phone\n',
    replace: '',
    catcher: { test: ORDERS, title: 'leads are made in the order of their numbers by an import' },
  },
  {
    name: 'import-lead-offset',
    what: 'OFFSET 0 of the look-up of a lead by its number',
    file: UPDATE,
    find: 'phone = new.phone OFFSET 0) lead',
    replace: 'phone = new.phone) lead',
    catcher: { test: 'packages/engine/test/import-large.test.ts' },
  },
  {
    name: 'lead-made-meanwhile',
    what: 'ON CONFLICT: somebody else makes the lead meanwhile',
    file: 'packages/engine/src/lead/create-lead.ts',
    find: 'ON CONFLICT ON CONSTRAINT unique_lead_phone DO NOTHING RETURNING lead_id`',
    replace: 'RETURNING lead_id`',
    catcher: {
      test: 'packages/engine/test/fences.test.ts',
      title: 'is made once, and found by whoever makes it again',
    },
  },
  {
    name: 'list-named-lock',
    what: 'the lock on the business: two people make the same list',
    file: LISTS,
    find: 'FOR NO KEY UPDATE',
    replace: '',
    catcher: { test: BEHIND, title: 'a list of a name is found that is made meanwhile' },
  },
  {
    name: 'account-numbers-lock',
    what: 'the lock on the business: two people enter the same number',
    file: ACCOUNT,
    find: "await tx.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR NO KEY UPDATE', [tx.business_id]);",
    replace: '',
    catcher: { test: ACCOUNTS, title: 'has them to itself also when it is entered twice at once' },
  },
  {
    name: 'account-move-lock',
    what: 'the lock on an account that moves',
    file: ACCOUNT,
    find: 'carillon.carrier_accounts\n       WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE`',
    replace: 'carillon.carrier_accounts\n       WHERE business_id = $1 AND carrier_account_id = $2`',
    catcher: { test: BEHIND, title: 'an account tells from where it moves' },
  },
  {
    name: 'lane-resume-lock',
    what: 'the lock on a lane that a person resumes',
    file: ACCOUNT,
    find: 'carillon.lanes\n       WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE`',
    replace: 'carillon.lanes\n       WHERE business_id = $1 AND carrier_account_id = $2`',
    catcher: { test: BEHIND, title: 'a person who resumes a lane is told why it was halted meanwhile' },
  },
  {
    name: 'last-owner-lock',
    what: 'the lock on the business: two owners revoke each other’s key',
    file: KEYS,
    find: "await tx.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR NO KEY UPDATE', [business_id]);",
    replace: '',
    catcher: { test: 'packages/engine/test/keys.test.ts', title: 'when two owners revoke each other at once' },
  },
  {
    name: 'adoption-lock',
    what: 'the lock that lets one adoption into a database at a time',
    file: 'packages/engine/src/adopt/lock.ts',
    find: 'if (!rows[0]?.got)',
    replace: 'if (!rows[0])',
    catcher: { test: ADOPTS, title: 'is refused while another one is under way' },
  },
  {
    name: 'adoption-batch-cursor',
    what: 'the look where the adoption stands, of each batch',
    file: STAGE,
    find: 'if (adoption?.jobs_cursor !== from)',
    replace: 'if (!adoption)',
    catcher: { test: ADOPTS, title: 'does nothing twice where the lock is lost' },
  },
  {
    name: 'erase-stopping-run',
    what: 'that a job of a run which stops is not skipped as well: its counter has moved',
    file: ERASE,
    find: "!run || run.status === 'cancelling' ||",
    replace: '!run ||',
    catcher: { test: ERASES, title: 'leaves its jobs as they are that are done' },
  },
  {
    name: 'erase-job-status',
    what: 'that only jobs which wait to be called are skipped',
    file: ERASE,
    find: "(job.status !== 'queued' && job.status !== 'waiting')) continue;",
    replace: 'false) continue;',
    catcher: { test: ERASES, title: 'leaves its jobs as they are that are done' },
  },
  {
    name: 'import-lead-known',
    what: 'that rows with nothing new are not written',
    file: UPDATE,
    find: 'WHERE excluded.name <> l.name OR l.name IS NULL',
    replace: 'WHERE true OR excluded.name <> l.name OR l.name IS NULL',
    catcher: { test: IMPORTED, title: 'updates the lead that the business has' },
  },
  {
    name: 'import-lead-there',
    what: 'ON CONFLICT: a lead that the business has is updated',
    file: UPDATE,
    find: `     ON CONFLICT ON CONSTRAINT unique_lead_phone DO UPDATE SET
       name = coalesce(excluded.name, l.name),
       external_id = coalesce(excluded.external_id, l.external_id),
       time_zone = CASE WHEN $7 THEN excluded.time_zone ELSE coalesce(l.time_zone, excluded.time_zone) END,
       attributes = l.attributes || excluded.attributes,
       updated_at = now()
     WHERE excluded.name <> l.name OR l.name IS NULL AND excluded.name IS NOT NULL
        OR excluded.external_id <> l.external_id OR l.external_id IS NULL AND excluded.external_id IS NOT NULL
        OR $7 AND excluded.time_zone IS DISTINCT FROM l.time_zone
        OR NOT l.attributes @> excluded.attributes
     RETURNING l.phone, l.lead_id, l.updated_at <> l.created_at AS updated`,
    replace: '     RETURNING l.phone, l.lead_id, $7::boolean AND false AS updated',
    catcher: { test: IMPORTED, title: 'updates the lead that the business has' },
  },
  {
    name: 'import-consent-there',
    what: 'ON CONFLICT: a consent replaces the one before it',
    file: UPDATE,
    find: `     ON CONFLICT (business_id, lead_id) DO UPDATE SET
       source = excluded.source, given_at = excluded.given_at, consent_text = excluded.consent_text,
       recorded_at = now()
     WHERE excluded.given_at > c.given_at OR c.given_at IS NULL AND (
       excluded.given_at IS NOT NULL
       OR (excluded.source, excluded.consent_text) IS DISTINCT FROM (c.source, c.consent_text))
`,
    replace: '',
    catcher: { test: 'packages/engine/test/import-rules.test.ts', title: 'keeps the newest consent' },
  },
  {
    name: 'import-newest-consent',
    what: 'that an older consent does not replace a newer one',
    file: UPDATE,
    find: 'WHERE excluded.given_at > c.given_at OR',
    replace: 'WHERE excluded.given_at IS NOT NULL OR',
    catcher: { test: 'packages/engine/test/import-rules.test.ts', title: 'keeps the newest consent' },
  },
  {
    name: 'import-consents-order',
    what: 'ORDER BY: consents are locked in the order of their leads',
    file: UPDATE,
    find: '     ORDER BY new.lead_id\n',
    replace: '',
    catcher: { test: ORDERS, title: 'consents are written in the order of their leads' },
  },
  {
    name: 'import-touched-while-running',
    what: 'that an import which is over shows no sign of life',
    file: IMPORT,
    find: `bytes_read = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 AND state = 'running'\``,
    replace: `bytes_read = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2\``,
    catcher: { test: FAULTS, title: 'that is over is not touched any more' },
  },
  {
    name: 'import-taken-over-stays',
    what: 'that an import which was taken over keeps the reason of its end',
    file: IMPORT,
    find: `error = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 AND state = 'running' RETURNING`,
    replace: `error = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 RETURNING`,
    catcher: { test: FAULTS, title: 'the other takes over, and the first writes nothing when it wakes' },
  },
  {
    name: 'list-named-oldest',
    what: 'ORDER BY: the oldest of the lists of a name',
    file: LISTS,
    find: 'AND name = $2 ORDER BY list_id LIMIT 1`',
    replace: 'AND name = $2 LIMIT 1`',
    catcher: { test: ORDERS, title: 'of several lists of a name the oldest is meant' },
  },
];

export const leadEquivalents: Equivalent[] = [
  {
    file: STAGE,
    what: 'the lock of each batch on its adoption',
    why: 'the keys of what a batch writes refuse a second one, which then sees that the adoption has gone on; the lock saves the work',
  },
  {
    file: UPDATE,
    what: 'OFFSET 0 of the look-up of a lead’s place in the list',
    why: 'the logins’ own settings (no sequential scans) keep the plan right in every state that a test makes; it stays for a server where somebody has changed them',
  },
  {
    file: 'packages/engine/src/adopt/runs.ts',
    what: 'the lock on the adoption whose runs are noted',
    why: 'the lock on adoptions, which is mutated, lets one in at a time; a run that is noted twice is refused by its key',
  },
  {
    file: MAKE,
    what: 'the lock on the adoption and the expected state of a run that is made',
    why: 'the lock on adoptions, which is mutated, lets one in at a time; without all three a run would be made twice, which its key refuses',
  },
  {
    file: KNOWN,
    what: 'OFFSET 0 in the look-ups of an adoption',
    why: 'an adoption happens once; what it costs is measured with a million rows, and its plans are not looked at',
  },
  {
    file: IMPORT,
    what: 'that the import found under a key does not live',
    why: 'it holds its list then, and whoever would take the list over is told the same',
  },
  {
    file: IMPORT,
    what: 'the state of an import that is taken over, and of one that is finished',
    why: 'an import lets go of its list in the transaction in which it ends: who holds the list, under its lock, is running',
  },
  {
    file: 'packages/engine/src/run/read.ts',
    what: 'orders, pages and OFFSET 0 of what people read: runs, jobs, attempts, exports, histories of leads, searches, lists and keys',
    why: 'nothing of it stands on a lead’s way: nobody is called, or not called, by what a page shows; its tests tell of the pages, and the plans of what must stay cheap',
  },
];
