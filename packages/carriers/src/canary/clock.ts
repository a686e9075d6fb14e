/** Milliseconds since 1970. The canary's calls tell by their ids when they were made: any process knows how far they are. */
export function wallMs(): number {
  return Date.now();
}
