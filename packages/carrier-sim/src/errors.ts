/** An error as the carrier's API tells it: `{code, message, more_info, status}`. */
export class ApiError extends Error {
  readonly code: number;
  readonly status: number;
  constructor(code: number, details: { status?: number | undefined; message?: string | undefined } = {}) {
    const known = table[code] ?? { status: 400, message: 'The request was refused' };
    super(details.message ?? known.message);
    this.code = code;
    this.status = details.status ?? known.status;
  }

  body(): { code: number; message: string; more_info: string; status: number } {
    const more_info = `https://www.twilio.com/docs/errors/${this.code}`;
    return { code: this.code, message: this.message, more_info, status: this.status };
  }
}

/** The codes that matter to who places calls, with the HTTP status that the carrier sends them with. */
const table: Record<number, { status: number; message: string }> = {
  10001: { status: 403, message: 'Account is not active' },
  10004: { status: 429, message: 'Call concurrency limit exceeded' },
  20001: { status: 400, message: 'Unknown parameters' },
  20003: { status: 401, message: 'Authenticate' },
  20004: { status: 405, message: 'Method not allowed' },
  20005: { status: 403, message: 'Account is not active' },
  20006: { status: 403, message: 'Access denied' },
  20008: { status: 403, message: 'Resource not accessible with Test Account Credentials' },
  20010: { status: 400, message: 'Account is not allowed to do this' },
  20403: { status: 403, message: 'Forbidden' },
  20404: { status: 404, message: 'The requested resource was not found' },
  20429: { status: 429, message: 'Too Many Requests' },
  20500: { status: 500, message: 'An internal server error has occurred' },
  21201: { status: 400, message: "No 'To' number is specified" },
  21202: { status: 400, message: "'To' number is a premium number" },
  21203: { status: 400, message: 'International calling is not enabled' },
  21205: { status: 400, message: 'Url is not a valid URL' },
  21210: { status: 400, message: "'From' number is not verified for this account" },
  21211: { status: 400, message: "Invalid 'To' Phone Number" },
  21212: { status: 400, message: "Invalid 'From' Number" },
  21213: { status: 400, message: "'From' phone number is required" },
  21214: { status: 400, message: "'To' phone number cannot be reached" },
  21215: {
    status: 400,
    message: "Account not authorized to call this number: check the account's geographic permissions",
  },
  21216: { status: 400, message: 'Account not allowed to call this number' },
  21217: { status: 400, message: 'Phone number does not appear to be valid' },
  21218: { status: 400, message: 'Invalid ApplicationSid' },
  21219: { status: 400, message: "'To' phone number is not verified for this trial account" },
  21220: { status: 400, message: 'Call is not in-progress. Cannot redirect.' },
  21609: { status: 400, message: "Invalid 'StatusCallback' URL" },
};
