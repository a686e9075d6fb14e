/** Who does a thing: a key, a person, the command line, a worker. Goes into `created_by` and the trail. */
export interface Actor {
  /** Such as `key:12`, `cli`, `worker:…`. Never a name or a number of a person. */
  name: string;
  user_id: string | null;
}
