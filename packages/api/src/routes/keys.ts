import { ApiKey, CarillonError, CreatedKey, CreateKey, KeyId, page } from '@carillon/contract';
import { createKey, listKeys, revokeKey } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_OWN, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, pageQuery } from '../schemas.ts';

export function keyRoutes(app: ZodApp, { db, clock }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/keys',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Keys'],
      summary: 'The keys without their secrets, newest first',
      description: 'Entries of system administrators stand among them, with `entered_by`.',
      querystring: z.object({ after: idText(KeyId).optional().describe(after), ...pageQuery }),
      response: { 200: page(ApiKey), ...failures('invalid_request') },
    },
    handler: (request) => listKeys(db, principalOf(request).business_id, request.query),
  });
  app.route({
    method: 'POST',
    url: '/api/keys',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Keys'],
      summary: 'Create a key',
      description: '`key` is shown this once; only a hash of it is kept. Without `expires_at` it never expires.',
      body: CreateKey,
      response: { 201: CreatedKey, ...failures('invalid_request') },
    },
    async handler(request, reply) {
      const { role, label, expires_at } = request.body;
      const end = expires_at === undefined ? undefined : new Date(expires_at);
      if (end && end.getTime() <= clock.wallMs())
        throw new CarillonError('invalid_request', { problem: 'expires_at: a time that is still to come' });
      const input = { role, label, expires_at: end };
      const key = await createKey(db, principalOf(request).business_id, input, actorOf(request));
      return reply.code(201).send(key);
    },
  });
  app.route({
    method: 'POST',
    url: '/api/keys/:key_id/revoke',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Keys'],
      summary: 'Revoke a key',
      description:
        'It opens nothing from now on, and never again; revoking it again changes nothing. The last valid owner key ' +
        'can not be revoked: create its successor first. Streams that it has open end within ten minutes.',
      params: z.object({ key_id: idText(KeyId) }),
      response: { 200: ApiKey, ...failures('key_not_found', 'last_owner_key') },
    },
    handler: (request) => revokeKey(db, principalOf(request).business_id, request.params.key_id, actorOf(request)),
  });
}
