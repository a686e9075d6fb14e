import { CreateList, Lead, List, ListId, page } from '@carillon/contract';
import { createList, listListLeads, listLists } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, pageQuery } from '../schemas.ts';

export function listRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/lists',
    config: { access: MAY_READ },
    schema: {
      tags: ['Lists'],
      summary: 'The lists, newest first',
      querystring: z.object({ after: idText(ListId).optional().describe(after), ...pageQuery }),
      response: { 200: page(List), ...failures('invalid_request') },
    },
    handler: (request) => listLists(db, principalOf(request).business_id, request.query),
  });
  app.route({
    method: 'POST',
    url: '/api/lists',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Lists'],
      summary: 'Create an empty list',
      body: CreateList,
      response: { 201: List, ...failures('invalid_request') },
    },
    async handler(request, reply) {
      const list = await createList(db, principalOf(request).business_id, request.body, actorOf(request));
      return reply.code(201).send(list);
    },
  });
  app.route({
    method: 'GET',
    url: '/api/lists/:list_id/leads',
    config: { access: MAY_READ },
    schema: {
      tags: ['Lists'],
      summary: "A list's leads, in its order",
      params: z.object({ list_id: idText(ListId) }),
      querystring: z.object({ after: Position.optional().describe(after), ...pageQuery }),
      response: { 200: page(Lead), ...failures('list_not_found', 'invalid_request') },
    },
    handler: (request) => listListLeads(db, principalOf(request).business_id, request.params.list_id, request.query),
  });
}

/** A place in a list, from 1. */
const Position = idText(z.number().max(2_147_483_647));
