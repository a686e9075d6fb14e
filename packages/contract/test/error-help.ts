import type { ErrorCode } from '../src/errors.ts';

/** What each error means and what to do about it: the words of docs/errors.md. */
export const ERROR_HELP: Record<ErrorCode, string> = {
  run_not_found:
    'Your business has no run with this id. One of another business gets the same answer. List the runs with `GET /api/outbound/runs`.',
  queue_not_found: 'The same, where a run is stopped by `stop-queue`: your business has no such run.',
  job_not_found: 'Your business has no such job. A job is named `<run_id>-<number>`, as the jobs of a run are listed.',
  list_not_found: 'Your business has no list with this id.',
  lead_not_found: 'Your business has no lead with this id. Where several were named, `details.path` says which one.',
  import_not_found: 'Your business has no import with this id.',
  carrier_account_not_found: 'Your business has no carrier account with this id.',
  key_not_found: 'Your business has no key with this id; on the command line, nor have the system administrators.',
  business_not_found: 'There is no business with this id. Only system administrators are told so.',
  route_not_found: 'The address or the method is wrong; `/openapi.json` lists all of them.',
  unauthenticated:
    'The key is missing, malformed, unknown, revoked or expired, or the administrator who entered with it is. The answer does not tell which. Send a valid one, or ask an owner for one.',
  forbidden: 'The key is valid, and its role may not do this; see [the roles](roles.md).',
  business_not_entered:
    "A system administrator's own key was used where a business's is needed. Enter the business with `POST /api/businesses/{business_id}/enter`, and use the key of the answer.",
  signature_invalid:
    "A carrier's callback is not signed with the account's token. Check the token, and that `CARILLON_PUBLIC_URL` is the address that the carrier calls, to the letter.",
  invalid_request:
    'A field is missing, unknown or out of bounds. `details.issues` names the places; correct them and send the request again.',
  body_too_large: 'Send less at once; `details.limit_bytes` is the bound of this route.',
  unsupported_media_type: 'Send the body as one of the types that the sentence names.',
  too_many_requests: 'This key asked too often. Wait as long as the header `Retry-After` says.',
  too_many_streams: 'Close event streams that nobody watches, or read the run from time to time instead.',
  idempotency_conflict:
    'The first request with this Idempotency-Key was another one. Repeat that one exactly, or take a new key for a new request.',
  last_owner_key:
    'Without an owner key nobody in the business could make another. Create the new owner key first, then revoke this one; so also when this one has leaked.',
  phone_taken: 'Another lead of the business has this number; `details.lead_id` says which. Edit that one.',
  lead_erased: 'The person was erased on request, for good. To call the number again, create or import it anew.',
  lead_in_call: 'Wait for the end of the call, or cancel its job, and do it then.',
  duplicate_lead: 'One lead was named twice. A run calls each lead once; name it once.',
  list_empty: 'Import leads into the list, then start the run.',
  follow_up_empty: 'No lead of the earlier run ended as asked, so that there is nobody to call. Choose other outcomes.',
  no_carrier_account:
    'Add one with `POST /api/carrier_accounts` or `carillon account create`, and start the run again.',
  carrier_account_ambiguous: 'Say through which account the run shall call: `carrier_account_id`.',
  from_number_taken:
    'One number of one account at the carrier may be entered once: a lost call could be taken for that of the other entry.',
  unknown_driver: 'Name one of the drivers in the sentence; `twilio` serves all that speak its API.',
  restore_unacknowledged:
    'A backup was restored or a replica has taken over. Whoever runs the installation follows docs/restore.md; then resume the run.',
  run_state_conflict: 'The run is not in a state for this, for instance over already. Read it, and see what it can do.',
  job_state_conflict: 'The job is not in a state for this, for instance over already. Read it.',
  phone_invalid:
    'The number can not be called: too short or long, of no known kind, or an emergency or short number. Give it with its country code, or name the country.',
  import_file_empty: 'The file has no line. Choose the right one.',
  import_no_lines: 'The file has a header and nothing else. Choose the right one, or fill it.',
  import_not_text:
    'Some bytes are no text in the encoding that was recognised. Save the file as CSV UTF-8, or name its encoding.',
  import_encoding_unknown: 'Save the file as CSV UTF-8, or name its encoding.',
  import_format_unsupported: 'Files are CSV, NDJSON or XLSX. Save it as one of them.',
  import_damaged: 'Open the file in a spreadsheet, save it again, and send that.',
  import_unpacks_too_large: 'A small file that unpacks to a huge one may be an attack. Divide it, or save it as CSV.',
  import_sheet_not_found: 'Name one of the sheets in the sentence, or leave `sheet` out for the first.',
  import_phone_column_ambiguous: 'Say with `phone=COLUMN` which column holds the number to call.',
  import_no_space: 'An operator must make room where the server keeps files in passing; nothing was imported.',
  database_full:
    'An operator must make room on the disk of the database. Nothing was done; send the request again then.',
  import_no_phone_column: 'Say with `phone=COLUMN` which column holds the phone number.',
  import_broken: 'Mend the line that the sentence names. Nothing was imported.',
  import_in_progress: 'One import at a time fills a list. Wait for the end of the other, and send it again.',
  database_unavailable:
    'The database is down, restarting or overloaded, and a request has waited for it (15 s where nothing else is set). Nothing is lost: what was answered is committed. Try again after as long as the header `Retry-After` says.',
  outcome_unknown:
    'The database went away between the last word of a request and its answer, and was not back in time to be asked what came of it (15 s where nothing else is set). A restart or a crash does not show this: the request waits for it and is done once. Look whether it was done, and ask again if it was not. With an `Idempotency-Key` the same request may simply be sent again; reading never gets this answer.',
  internal: 'A fault of ours. The log has the details under the request id; repeat with the same Idempotency-Key.',
};
