import {
  parseJobId,
  type SecurityEvent,
  type SecurityReport,
  SHARED_NUMBERS_MAX,
  type SharedNumber,
} from '@carillon/contract';
import { type Database, discover, queryGlobal } from '../db/database.ts';
import { keysetPage } from '../run/read.ts';

/** A place in the report: newer ones come before it. */
export interface ReportCursor {
  at_us: number;
  origin: 'business' | 'installation';
  event_id: number;
}

const CURSOR = /^([1-9]\d{0,15})-(business|installation)-([1-9]\d{0,15})$/;

/** Null for a text that no page ended with. */
export function parseReportCursor(text: string): ReportCursor | null {
  const [, at_us, origin, event_id] = CURSOR.exec(text) ?? [];
  if (origin !== 'business' && origin !== 'installation') return null;
  return { at_us: Number(at_us), origin, event_id: Number(event_id) };
}

/**
 * What happened at the walls of all businesses, newest first: refused ids with whether they were another's or nobody's,
 * strangers at the door; and the numbers that businesses share. Read through the discovery login, which sees ids only.
 */
export async function securityReport(
  db: Database,
  options: { after?: ReportCursor | undefined; limit: number },
): Promise<SecurityReport> {
  const rows = await readEvents(db, options.after, options.limit + 1);
  const page = keysetPage(rows, options.limit, ({ at_us, origin, event_id }) => `${at_us}-${origin}-${event_id}`);
  const owners = await findOwners(db, page.items);
  const items = page.items.map((row) => viewEvent(row, owners));
  return { items, next: page.next, shared_numbers: await sharedNumbers(db) };
}

interface EventRow {
  origin: ReportCursor['origin'];
  business_id: number | null;
  event_id: number;
  action: string;
  actor: string;
  source: string | null;
  request_id: string | null;
  subject_type: string | null;
  subject_id: string | null;
  times: number | null;
  at: Date;
  at_us: number;
}

/**
 * One page of both trails. Each is read by its index in time, and no further than the page: `at` alone leads the index
 * to the place, the rest of the cursor tells apart what happened in one microsecond.
 */
async function readEvents(db: Database, after: ReportCursor | undefined, limit: number): Promise<EventRow[]> {
  const params = [after?.at_us ?? null, after?.origin ?? null, after?.event_id ?? null, limit];
  const of_businesses = await discover<EventRow>(
    db,
    `SELECT 'business' AS origin, business_id, event_id, action, actor, source, request_id, subject_type, subject_id,
            NULL AS times, at, (extract(epoch FROM at) * 1000000)::bigint AS at_us
     FROM carillon.audit_events
     WHERE kind = 'security' AND ($1::bigint IS NULL OR at <= timestamptz 'epoch' + $1 * interval '1 microsecond'
       AND (at, 'business', event_id) < (timestamptz 'epoch' + $1 * interval '1 microsecond', $2::text, $3::bigint))
     ORDER BY at DESC, event_id DESC LIMIT $4`,
    params,
  );
  const of_installation = await queryGlobal<EventRow>(
    db,
    `SELECT 'installation' AS origin, NULL AS business_id, event_id, action, actor, source, request_id, subject_type,
            subject_id, times, at, (extract(epoch FROM at) * 1000000)::bigint AS at_us
     FROM carillon.installation_events
     WHERE kind = 'security' AND ($1::bigint IS NULL OR at <= timestamptz 'epoch' + $1 * interval '1 microsecond'
       AND (at, 'installation', event_id) < (timestamptz 'epoch' + $1 * interval '1 microsecond', $2::text, $3::bigint))
     ORDER BY at DESC, event_id DESC LIMIT $4`,
    params,
  );
  return [...of_businesses, ...of_installation].sort(newestFirst).slice(0, limit);
}

function newestFirst(a: EventRow, b: EventRow): number {
  const by_origin = a.origin === b.origin ? 0 : a.origin === 'business' ? 1 : -1;
  return b.at_us - a.at_us || by_origin || b.event_id - a.event_id;
}

interface Owner {
  type: string;
  id: number;
  business_id: number;
  created_at: Date;
  /** Of a run: its jobs are numbered up to it. */
  jobs: number;
}

/** Every row that one of these events names, whosoever it is: by primary key in each business. */
async function findOwners(db: Database, events: readonly EventRow[]): Promise<Owner[]> {
  const ids = (type: string) =>
    events.flatMap((event) => (event.subject_type === type ? (idOf(event) ?? []) : [])).toSorted((a, b) => a - b);
  return await discover<Owner>(
    db,
    `SELECT 'run' AS type, t.run_id AS id, b.business_id, t.created_at, t.total_leads AS jobs
     FROM carillon.businesses b
     JOIN carillon.outbound_call_runs t ON t.business_id = b.business_id AND t.run_id = ANY($1::bigint[])
     UNION ALL SELECT 'list', t.list_id, b.business_id, t.created_at, 0 FROM carillon.businesses b
     JOIN carillon.lists t ON t.business_id = b.business_id AND t.list_id = ANY($2::bigint[])
     UNION ALL SELECT 'import', t.import_id, b.business_id, t.created_at, 0 FROM carillon.businesses b
     JOIN carillon.list_imports t ON t.business_id = b.business_id AND t.import_id = ANY($3::bigint[])
     UNION ALL SELECT 'lead', t.lead_id, b.business_id, t.created_at, 0 FROM carillon.businesses b
     JOIN carillon.leads t ON t.business_id = b.business_id AND t.lead_id = ANY($4::bigint[])
     UNION ALL SELECT 'carrier_account', t.carrier_account_id, b.business_id, t.created_at, 0 FROM carillon.businesses b
     JOIN carillon.carrier_accounts t ON t.business_id = b.business_id AND t.carrier_account_id = ANY($5::bigint[])
     UNION ALL SELECT 'key', t.key_id, b.business_id, t.created_at, 0 FROM carillon.businesses b
     JOIN carillon.api_keys t ON t.business_id = b.business_id AND t.key_id = ANY($6::bigint[])`,
    [[...ids('run'), ...ids('job')], ids('list'), ids('import'), ids('lead'), ids('carrier_account'), ids('key')],
  );
}

/** The number by which the row of an event is looked up; a job's run. Null where no row could have such an id. */
function idOf({ subject_type, subject_id }: EventRow): number | null {
  if (subject_type === 'job') return parseJobId(subject_id ?? '')?.run_id ?? null;
  return /^[1-9]\d{0,15}$/.test(subject_id ?? '') ? Number(subject_id) : null;
}

function viewEvent(row: EventRow, owners: readonly Owner[]): SecurityEvent {
  const { origin: _, at_us: __, subject_type: type, subject_id, at, ...event } = row;
  const owner = row.action === 'access.id_not_visible' ? owners.find((one) => isOwner(one, row)) : undefined;
  const told_apart = row.action === 'access.id_not_visible' && type !== null;
  return {
    ...event,
    at: at.toISOString(),
    subject: type !== null && subject_id !== null ? { type, id: subject_id } : null,
    subject_was: told_apart ? (owner ? 'foreign' : 'absent') : null,
    subject_business_id: owner?.business_id ?? null,
  };
}

/** What was made only after somebody had asked for it was nobody's then: ids can be guessed ahead. */
function isOwner(owner: Owner, event: EventRow): boolean {
  const { subject_type, subject_id, business_id, at } = event;
  const type = subject_type === 'job' ? 'run' : subject_type;
  const seq = subject_type === 'job' ? (parseJobId(subject_id ?? '')?.seq ?? 0) : 0;
  return (
    owner.type === type &&
    owner.id === idOf(event) &&
    owner.business_id !== business_id &&
    owner.created_at <= at &&
    seq <= owner.jobs
  );
}

/** Which of these calls is whose can't be told by their numbers, and one business sees nothing of another's attempts. */
export async function sharedNumbers(db: Database): Promise<SharedNumber[]> {
  return await discover<SharedNumber>(
    db,
    `SELECT a.base_url, a.account_sid, n AS from_number,
            jsonb_agg(jsonb_build_object('business_id', a.business_id, 'carrier_account_id', a.carrier_account_id)
              ORDER BY a.business_id, a.carrier_account_id) AS accounts
     FROM carillon.businesses b JOIN carillon.carrier_accounts a ON a.business_id = b.business_id
     CROSS JOIN LATERAL unnest(a.from_numbers) n
     WHERE NOT b.canary
     GROUP BY a.base_url, a.account_sid, n HAVING count(DISTINCT a.business_id) > 1
     ORDER BY a.base_url, a.account_sid, n LIMIT $1`,
    [SHARED_NUMBERS_MAX],
  );
}
