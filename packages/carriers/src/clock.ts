/**
 * Milliseconds since 1970. The canary's calls tell by their ids when they were made, so any process knows how far they
 * are; a signed request that only asks says until when it may be answered.
 */
export function wallMs(): number {
  return Date.now();
}
