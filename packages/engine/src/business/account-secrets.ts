import { createPrivateKey } from 'node:crypto';
import { CarillonError, ClientValidation } from '@carillon/contract';
import { z } from 'zod';

/** What is secret of a carrier account. */
export type AccountSecrets = z.infer<typeof Secrets>;
const Secrets = z.strictObject({ auth_token: z.string(), client_validation: ClientValidation.optional() });

const KEY_BITS_MIN = 2_048;

/** As one text, to be sealed: the bare token where there is nothing else, as it always was. Throws `invalid_request`. */
export function packSecrets({ auth_token, client_validation }: AccountSecrets): string {
  if (client_validation) checkKey(client_validation.private_key_pem);
  // A token that looks like the other form is written in it.
  if (client_validation || auth_token.startsWith('{')) return JSON.stringify({ auth_token, client_validation });
  return auth_token;
}

export function unpackSecrets(text: string): AccountSecrets {
  return text.startsWith('{') ? Secrets.parse(JSON.parse(text)) : { auth_token: text };
}

/** Found out here and not at the first call. What the error of the library quotes is not told. */
function checkKey(pem: string): void {
  let bits = 0;
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'rsa') bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  } catch {
    // Judged with the others.
  }
  if (bits >= KEY_BITS_MIN) return;
  throw new CarillonError('invalid_request', {
    problem: 'client_validation.private_key_pem is no unencrypted RSA key of at least 2048 bits',
  });
}
