/** Who does a thing: a key, a person, the command line, a worker, the carrier. Goes into `created_by` and the trail. */
export interface Actor {
  /** Such as `key:12`, `cli`, `worker:…`. Never a name or a number of a person. */
  name: string;
  user_id: string | null;
  /** From where: an address, or the host of a process. */
  source?: string | undefined;
  /** The request that asked for it. */
  request_id?: string | undefined;
}
