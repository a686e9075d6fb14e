import { hostname } from 'node:os';

/** Who does a thing: a key, a person, the command line, a worker, the carrier. Goes into `created_by` and the trail. */
export interface Actor {
  /** Such as `key:12`, `cli`, `worker:…`, `carrier`. Never a name or a number of a person. */
  name: string;
  user_id: string | null;
  /** From where: an address, or the host of a process. */
  source?: string | undefined;
  /** The request that asked for it. */
  request_id?: string | undefined;
}

/** A process on this host that acts of itself: `cli`, `worker:<its id>`. */
export function localActor(name: string): Actor {
  return { name, user_id: null, source: hostname() };
}
