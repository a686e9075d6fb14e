import { ErasedLead, Lead, LeadHistory, LeadId, page, RunId, UpdateLead } from '@carillon/contract';
import { eraseLead, getLead, leadHistory, searchLeads, updateLead } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, MAY_OWN, MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, pageQuery } from '../schemas.ts';

const LeadParams = z.object({ lead_id: idText(LeadId) });

const LeadSearch = z
  .strictObject({
    search: z.string().max(200).optional().describe('The beginning of a name, a number or an external id.'),
    phone: z.string().max(64).optional().describe('A whole number, in any form in which people write it.'),
    external_id: z.string().max(200).optional().describe('A whole external id.'),
    after: z.string().max(2_000).optional().describe(after),
    ...pageQuery,
  })
  .refine(({ search, phone, external_id }) => [search, phone, external_id].filter(Boolean).length <= 1, {
    error: 'Give one of search, phone and external_id.',
  });

/** Leads one by one: found, looked at, changed, erased. */
export function leadRecordRoutes(app: ZodApp, context: ApiContext): void {
  readRoutes(app, context);
  changeRoutes(app, context);
}

function readRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/leads',
    config: { access: MAY_READ },
    schema: {
      tags: ['Leads'],
      summary: 'The leads, or those that fit what is looked for',
      description:
        'Newest first; what is looked for is found by number, then by external id, then by name. Erased leads are left ' +
        'out. A page may hold fewer leads than its limit though there is a next one.',
      querystring: LeadSearch,
      response: { 200: page(Lead), ...failures('invalid_request') },
    },
    handler: (request) => searchLeads(db, principalOf(request).business_id, request.query),
  });
  app.route({
    method: 'GET',
    url: '/api/leads/:lead_id',
    config: { access: MAY_READ },
    schema: {
      tags: ['Leads'],
      summary: 'One lead',
      params: LeadParams,
      response: { 200: Lead, ...failures('lead_not_found') },
    },
    handler: (request) => getLead(db, principalOf(request).business_id, request.params.lead_id),
  });
  app.route({
    method: 'GET',
    url: '/api/leads/:lead_id/history',
    config: { access: MAY_READ },
    schema: {
      tags: ['Leads'],
      summary: "A lead's jobs in all runs, the newest first, with their attempts",
      description: 'A page may hold fewer jobs than its limit though there is a next one.',
      params: LeadParams,
      querystring: z.object({ after: idText(RunId).optional().describe(after), ...pageQuery }),
      response: { 200: page(LeadHistory), ...failures('lead_not_found', 'invalid_request') },
    },
    handler: (request) => leadHistory(db, principalOf(request).business_id, request.params.lead_id, request.query),
  });
}

function changeRoutes(app: ZodApp, { db, limits }: ApiContext): void {
  app.route({
    method: 'PATCH',
    url: '/api/leads/:lead_id',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Leads'],
      summary: 'Change a lead',
      description:
        'What is left out stays, `null` clears; attributes are changed one by one. A number belongs to one lead: one ' +
        'that another has is refused, and the two are not merged. A call under way goes on to the old number.',
      params: LeadParams,
      body: UpdateLead,
      response: {
        200: Lead,
        ...failures('lead_not_found', 'phone_invalid', 'phone_taken', 'lead_erased', 'invalid_request'),
      },
    },
    handler: (request) =>
      updateLead(db, principalOf(request).business_id, request.params.lead_id, request.body, actorOf(request)),
  });
  app.route({
    method: 'POST',
    url: '/api/leads/:lead_id/erase',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Leads'],
      summary: 'Erase a person',
      description:
        'For good: number, name, external id, attributes, consent, and the kept text of import lines about the person. ' +
        'The lead stays without them, for the runs that count it, and is never called again: jobs that wait to be ' +
        'called are skipped. Refused while a call is open. A later import of the number makes a new lead.',
      params: LeadParams,
      response: { 200: ErasedLead, ...failures('lead_not_found', 'lead_in_call') },
    },
    handler: (request) =>
      eraseLead(db, principalOf(request).business_id, request.params.lead_id, { actor: actorOf(request), limits }),
  });
}
