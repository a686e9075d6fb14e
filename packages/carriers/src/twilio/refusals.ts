import type { RefusalClass } from '@carillon/contract';

/**
 * What the API's error codes say about a create. Every code here means that no call exists; the class says what
 * follows. Codes and meanings are those of Twilio's error dictionary; those that speak of parameters which are the same
 * for every call (address, time-outs) stop the lane, because the next lead would get the same answer.
 */
interface Refusal {
  class: RefusalClass;
  /** Told instead of the carrier's own words, which repeat the number. */
  meaning: string;
}

export const REFUSALS: ReadonlyMap<number, Refusal> = new Map(
  Object.entries({
    // This number.
    21201: { class: 'contact', meaning: 'No number to call was given' },
    21202: { class: 'contact', meaning: 'The number to call is a premium number' },
    21211: { class: 'contact', meaning: 'The number to call is not a valid phone number' },
    21214: { class: 'contact', meaning: 'The number to call cannot be reached' },
    21215: { class: 'contact', meaning: 'The account’s geographic permissions do not allow calls to this number' },
    21216: { class: 'contact', meaning: 'The carrier blocks calls to this number' },
    21217: { class: 'contact', meaning: 'The number to call does not appear to be valid' },
    21219: { class: 'contact', meaning: 'A trial account may only call verified numbers, and this is none' },
    573005: { class: 'contact', meaning: 'A trial account may only call verified numbers, and this one is not yet' },
    // Too much at once. The request was not processed.
    10004: { class: 'again', meaning: 'The account’s limit of concurrent calls is reached' },
    20429: { class: 'again', meaning: 'The account sends too many requests' },
    // A signed request that came after its time: no call exists.
    20156: { class: 'again', meaning: 'The signed request has expired on its way' },
    // The account.
    10001: { class: 'lane', meaning: 'The account is not active' },
    10002: { class: 'lane', meaning: 'A trial account does not have this feature' },
    10005: { class: 'lane', meaning: 'Voice calls are disabled for the account' },
    20003: { class: 'lane', meaning: 'The credentials are not accepted' },
    20005: { class: 'lane', meaning: 'The account is not active' },
    20006: { class: 'lane', meaning: 'The credentials do not give access to this account' },
    20008: { class: 'lane', meaning: 'Test credentials cannot place this call' },
    20010: { class: 'lane', meaning: 'Calls are disabled for the account' },
    20153: { class: 'lane', meaning: 'The key that signs does not belong to this account' },
    20154: { class: 'lane', meaning: 'The signature of the request lacks something' },
    20155: { class: 'lane', meaning: 'The signature of the request is not valid yet: the clocks differ' },
    20159: { class: 'lane', meaning: 'The request is signed with another key than the carrier knows' },
    70154: { class: 'lane', meaning: 'The carrier does not know the public key' },
    70155: { class: 'lane', meaning: 'The signature names a header that the request has not' },
    70156: { class: 'lane', meaning: 'The signature is not this request’s' },
    20403: { class: 'lane', meaning: 'The account is suspended or closed' },
    20404: { class: 'lane', meaning: 'The carrier does not know this account or address' },
    70051: { class: 'lane', meaning: 'The account or key is not authorized to place calls' },
    70052: { class: 'lane', meaning: 'The account takes only requests that are signed with a key' },
    // What we send with every call.
    20001: { class: 'lane', meaning: 'The carrier does not take one of the parameters' },
    21203: { class: 'lane', meaning: 'International calls are not enabled for the account' },
    21205: { class: 'lane', meaning: 'The callback address is not a valid URL' },
    21208: { class: 'lane', meaning: 'The ring time-out is not valid' },
    21209: { class: 'lane', meaning: 'The callback method is not valid' },
    21210: { class: 'lane', meaning: 'The calling number is not verified for the account' },
    21212: { class: 'lane', meaning: 'The calling number is not valid' },
    21213: { class: 'lane', meaning: 'No calling number was given' },
    21609: { class: 'lane', meaning: 'The address for status callbacks is not a valid URL' },
    21626: { class: 'lane', meaning: 'The carrier does not know one of the events that were asked for' },
    21218: { class: 'lane', meaning: 'The application that should handle the call is not valid' },
  } satisfies Record<number, Refusal>).map(([code, refusal]) => [Number(code), refusal]),
);

/** Codes that come as errors and yet do not say that there is no call: "call already initiated". */
export const NOT_REFUSALS: ReadonlySet<number> = new Set([21204]);

/** "The requested resource was not found", also of a call that is asked for by its id. */
export const NOT_FOUND = 20404;
