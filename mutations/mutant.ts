/** A change of one file that takes something away: `find` stands there exactly once, and `replace` takes its place. */
export interface Edit {
  /** From the root of the repository. */
  file: string;
  find: string;
  replace: string;
}

/** The test that must fail: a file, and what the names of its tests that are run contain; without `title` all of it. */
export interface Catcher {
  test: string;
  title?: string;
}

export interface Mutant extends Edit {
  name: string;
  /** In a few words: what is removed. */
  what: string;
  catcher: Catcher;
}

/** What can't be told from outside, or is protected by something else that no test can take away. */
export interface Equivalent {
  file: string;
  what: string;
  why: string;
}
