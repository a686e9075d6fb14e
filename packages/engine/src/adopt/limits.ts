/** Every bound of an adoption, with its unit as the last word. */
export interface AdoptLimits {
  /** Old jobs read, sorted and written in one transaction, at most. */
  adopt_batch_rows: number;
  /** Jobs copied to their run by one statement; a run is made in one transaction. */
  adopt_copy_rows: number;
  /** Old ids of leads and runs above this get new ones: the sequence has to be moved past all that are kept. */
  adopt_kept_id: number;
  /** A lock of the old system that is younger than this means that its workers are still at work. */
  adopt_live_lock_ms: number;
  /** Of each category, how many old ids the report shows. */
  adopt_samples_ids: number;
}

export const defaultAdoptLimits: AdoptLimits = {
  adopt_batch_rows: 5_000,
  adopt_copy_rows: 20_000,
  adopt_kept_id: 50_000_000,
  adopt_live_lock_ms: 300_000,
  adopt_samples_ids: 5,
};
