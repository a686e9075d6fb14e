import { type DropReason, type JudgedJob, type LeadFacts, RANKS, type TakenJob, type TakenStatus } from './judge.ts';
import { count, sample, type Tally } from './tally.ts';

/** A job that is kept so far: of the rows read until now the one that got furthest. */
export interface Kept {
  seq: number;
  rank: number;
  status: TakenStatus;
  old_job_id: number;
  old_lead_id: number | null;
}

/** A run into which jobs are sorted. `jobs`: how many it has; the next one's number is one more. */
export interface OpenRun {
  jobs: number;
  /** It is there for everybody, and takes no more jobs. */
  made: boolean;
}

/** What is known before a batch: from the database, or from the memory of a rehearsal. */
export interface Known {
  run(old_run_id: number): OpenRun | undefined;
  kept(old_run_id: number, phone: string): Kept | undefined;
  /** The business has a lead of this number. */
  hasPhone(phone: string): boolean;
  /** This old lead was met before, and is counted. */
  hasMet(old_lead_id: number): boolean;
  /** The business has a lead of this id, so an old lead can't keep it. */
  isTaken(lead_id: number): boolean;
}

export interface NewLead extends Omit<LeadFacts, 'text'> {
  phone: string;
  /** The id that it keeps; null: it gets a new one. */
  lead_id: number | null;
}

export interface ArchivedRow {
  kind: 'job' | 'lead';
  old_id: number;
  reason: DropReason;
  detail: string | null;
  /** Of the lead whose row here it belongs to. */
  phone: string | null;
  /** Null: it was read in an earlier batch, and has to be read again. */
  text: string | null;
}

/** A kept job, and which row of this batch it is. */
export interface KeptJob extends Kept {
  job: TakenJob;
}

/** What a batch changes. */
export interface Decision {
  leads: NewLead[];
  /** Which lead each old lead met for the first time became, by its number. */
  mappings: { old_lead_id: number; phone: string; made: boolean }[];
  /** Jobs that had no row yet. */
  added: KeptJob[];
  /** Jobs whose row is replaced by one that got further. */
  replaced: KeptJob[];
  archived: ArchivedRow[];
  /** How many jobs each run has after it. */
  runs: Map<number, number>;
}

/**
 * Sorts one batch of a business's jobs, in the order of their old ids: the same rows give the same decision, whatever
 * the batches, and whether it is carried out or only rehearsed. Counts into `tally`.
 */
export function decide(
  batch: readonly JudgedJob[],
  known: Known,
  tally: Tally,
  bounds: { adopt_kept_id: number; adopt_samples_ids: number },
): Decision {
  const made: Decision = { leads: [], mappings: [], added: [], replaced: [], archived: [], runs: new Map() };
  const phones = new Set<string>();
  const met = new Set<number>();
  const kept = new Map<string, KeptJob>();

  for (const job of batch) {
    tally.jobs.read++;
    if (job.drop !== null) {
      archiveJob(job, job.drop, job.detail, null);
      if (job.drop === 'bad_number') refuseNumber(job.detail ?? '', job.bad_lead);
      continue;
    }
    if (job.unknown_status !== null) count(tally.unknown_statuses.jobs, job.unknown_status);
    takeLead(job);
    takeJob(job);
  }
  return made;

  function archiveJob(
    row: { id: number; text: string | null },
    reason: DropReason,
    detail: string | null,
    phone: string | null,
  ) {
    made.archived.push({ kind: 'job', old_id: row.id, reason, detail, phone, text: row.text });
    count(tally.jobs.archived, reason);
    sample(tally, reason, row.id, bounds.adopt_samples_ids);
  }

  function isMet(old_lead_id: number): boolean {
    return met.has(old_lead_id) || known.hasMet(old_lead_id);
  }

  function refuseNumber(why: string, lead: { id: number; text: string } | null) {
    count(tally.bad_numbers, why);
    if (lead === null || isMet(lead.id)) return;
    met.add(lead.id);
    tally.leads.read++;
    tally.leads.refused++;
    made.archived.push({
      kind: 'lead',
      old_id: lead.id,
      reason: 'bad_number',
      detail: why,
      phone: null,
      text: lead.text,
    });
  }

  function takeLead({ old_lead_id, phone, lead }: TakenJob) {
    const isNew = !phones.has(phone) && !known.hasPhone(phone);
    const isFirst = old_lead_id !== null && !isMet(old_lead_id);
    const { text, ...facts } = lead;
    if (isNew) {
      phones.add(phone);
      const keeps = isFirst && old_lead_id > 0 && old_lead_id <= bounds.adopt_kept_id && !known.isTaken(old_lead_id);
      made.leads.push({ ...facts, phone, lead_id: keeps ? old_lead_id : null });
      tally.leads.read++;
      tally.leads.made++;
      tally.leads[keeps ? 'kept_id' : 'new_id']++;
    } else if (isFirst) {
      tally.leads.read++;
      tally.leads.merged++;
      if (text !== null)
        made.archived.push({ kind: 'lead', old_id: old_lead_id, reason: 'same_number', detail: null, phone, text });
    }
    if (!isFirst) return;
    met.add(old_lead_id);
    made.mappings.push({ old_lead_id, phone, made: isNew });
  }

  function takeJob(job: TakenJob) {
    const { run_id, phone, id, old_lead_id, status } = job;
    const run = known.run(run_id);
    if (!run) throw new Error('a job was judged to have a run that is not there');
    if (run.made) return archiveJob(job, 'late', null, phone);
    const place = `${run_id} ${phone}`;
    const inBatch = kept.get(place);
    const before = inBatch ?? known.kept(run_id, phone);
    const rank = RANKS[status];
    if (!before) {
      const seq = (made.runs.get(run_id) ?? run.jobs) + 1;
      made.runs.set(run_id, seq);
      tally.jobs.taken++;
      const added = { seq, rank, status, old_job_id: id, old_lead_id, job };
      kept.set(place, added);
      made.added.push(added);
      return;
    }
    const reason = before.old_lead_id === old_lead_id ? 'duplicate' : 'same_number';
    if (rank <= before.rank) return archiveJob(job, reason, `job ${before.old_job_id} is kept`, phone);
    archiveJob({ id: before.old_job_id, text: inBatch?.job.text ?? null }, reason, `job ${id} is kept`, phone);
    const better = { seq: before.seq, rank, status, old_job_id: id, old_lead_id, job };
    // Changed in place where the row that it replaces is of this batch, so that it is written once.
    if (inBatch) Object.assign(inBatch, better);
    else {
      kept.set(place, better);
      made.replaced.push(better);
    }
  }
}
