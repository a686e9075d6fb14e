import type { Attempt, JobStatus, Outcome, Seq } from '@carillon/contract';

/** A job with its lead, as it is read. */
export interface JobLine {
  seq: Seq;
  lead_id: number;
  status: JobStatus;
  attempts: number;
  last_outcome: Outcome | null;
  reason: string | null;
  phone: string | null;
  name: string | null;
  external_id: string | null;
  time_zone: string | null;
  attributes: Record<string, string>;
  due_us: number | null;
  waits_for: string | null;
}

/** What a line, or several, are written from. */
export interface ExportLine extends Omit<JobLine, 'due_us' | 'waits_for'> {
  due_at: string | null;
  tries: Attempt[];
}
