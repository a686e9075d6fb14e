import { XMLParser, XMLValidator } from 'fast-xml-parser';
import type { HttpMethod } from './types.ts';

/** What the customer wants said and done, verb by verb. */
export interface Verb {
  name: string;
  attributes: Record<string, string>;
  text: string;
}

/** The customer's instructions could not be had or followed; the codes are those of the carrier's debugger. */
export class ScriptFailure extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseTagValue: false,
  parseAttributeValue: false,
});

/** The parser's ordered form: one key with the children, and the attributes beside it under `:@`. */
type Node = Record<string, unknown>;

function nameOf(node: Node): string {
  return Object.keys(node).find((key) => key !== ':@') ?? '';
}

function childrenOf(node: Node): Node[] {
  const children = node[nameOf(node)];
  return Array.isArray(children) ? (children as Node[]) : [];
}

function textOf(children: Node[]): string {
  return children
    .map((child) => ('#text' in child ? String(child['#text']) : textOf(childrenOf(child))))
    .join('')
    .trim();
}

/** Throws ScriptFailure when the text is no TwiML. */
export function parseTwiml(text: string): Verb[] {
  const valid = XMLValidator.validate(text);
  if (valid !== true) throw new ScriptFailure(12100, `Document parse failure: ${valid.err.msg}`);
  const root = (parser.parse(text) as Node[]).find((node) => !nameOf(node).startsWith('?'));
  if (!root || nameOf(root) !== 'Response') {
    throw new ScriptFailure(12100, 'Document parse failure: the root element is not <Response>');
  }
  return childrenOf(root)
    .filter((node) => !nameOf(node).startsWith('#'))
    .map((node) => ({
      name: nameOf(node),
      attributes: (node[':@'] ?? {}) as Record<string, string>,
      text: textOf(childrenOf(node)),
    }));
}

/** A document to ask the customer for. */
export interface DocumentRequest {
  url: string;
  method: HttpMethod;
  params: Record<string, string>;
}

/** What the script's player needs of the call that it is played to. */
export interface Stage {
  /** Throws ScriptFailure when the document can't be had. */
  fetch(request: DocumentRequest): Promise<Verb[]>;
  /** Lets the conversation go on for that long. */
  talk(duration_ms: number): Promise<void>;
  /** Whether the call has ended, or got other instructions, meanwhile. */
  over(): boolean;
  documents: number;
  talk_ms: number;
  /** Keys that the person will press. */
  digits: string;
}

type Step = 'next' | 'hangup' | DocumentRequest;

/** Where talking time passes. Recordings are silent, so they end at once. */
const TALKING: ReadonlySet<string> = new Set(['Say', 'Play', 'Pause', 'Gather', 'Dial', 'Connect']);

/**
 * Plays a document and those that it leads to; returns when the script is at its end and the call should be hung up, or
 * when the call is over. Time is compressed: all talking verbs of a document share the call's talking time
 * equally, whatever they say; later documents get what is left. Throws ScriptFailure.
 */
export async function playScript(stage: Stage, first: DocumentRequest | { verbs: Verb[]; url: string }): Promise<void> {
  let talk_left_ms = stage.talk_ms;
  let digits = stage.digits;
  let current = first;
  for (let documents = 1; ; documents++) {
    if (documents > stage.documents)
      throw new ScriptFailure(12400, `More than ${stage.documents} documents in one call`);
    const verbs = 'verbs' in current ? current.verbs : await stage.fetch(current);
    if (stage.over()) return;
    let step: Step = 'next';
    let talking_left = verbs.filter(({ name }) => TALKING.has(name)).length;
    for (const verb of verbs) {
      if (TALKING.has(verb.name)) {
        const share_ms = talk_left_ms / talking_left;
        talking_left -= 1;
        talk_left_ms -= share_ms;
        await stage.talk(share_ms);
        if (stage.over()) return;
      }
      const pressed = verb.name === 'Gather' ? pressKeys(verb, digits) : '';
      digits = digits.slice(pressed.length);
      step = follow(verb, current.url, pressed);
      if (step !== 'next') break;
    }
    if (step === 'next' || step === 'hangup') return;
    current = step;
  }
}

/** The keys that this Gather takes of those that the person will press. */
function pressKeys(verb: Verb, digits: string): string {
  const input = verb.attributes.input ?? 'dtmf';
  if (!input.split(' ').includes('dtmf')) return '';
  const count = Number(verb.attributes.numDigits ?? Number.POSITIVE_INFINITY);
  const finish = verb.attributes.finishOnKey ?? '#';
  const end = finish === '' ? -1 : digits.indexOf(finish);
  return digits.slice(0, Math.min(count, end === -1 ? digits.length : end + 1));
}

function follow(verb: Verb, document_url: string, pressed: string): Step {
  const { attributes } = verb;
  const to = (url: string, params: Record<string, string>): DocumentRequest => ({
    url: resolve(url, document_url),
    method: attributes.method?.toUpperCase() === 'GET' ? 'GET' : 'POST',
    params,
  });
  switch (verb.name) {
    case 'Hangup':
    case 'Reject':
      return 'hangup';
    case 'Redirect':
      return to(verb.text, {});
    case 'Gather': {
      const finish = attributes.finishOnKey ?? '#';
      const finished = finish !== '' && pressed.endsWith(finish);
      const digits = finished ? pressed.slice(0, -1) : pressed;
      if (digits === '' && attributes.actionOnEmptyResult !== 'true') return 'next';
      return to(attributes.action ?? document_url, {
        msg: 'Gather End',
        Digits: digits,
        FinishedOnKey: finished ? finish : '',
      });
    }
    case 'Dial':
      return attributes.action === undefined
        ? 'next'
        : to(attributes.action, { DialCallStatus: 'completed', DialBridged: 'true' });
    case 'Record':
      // Nobody speaks to the recorder, and a silent recording without an action falls through to the next verb.
      return attributes.action === undefined
        ? 'next'
        : to(attributes.action, { RecordingDuration: '0', Digits: 'hangup' });
    case 'Connect':
      return attributes.action === undefined ? 'next' : to(attributes.action, {});
    default:
      // Say, Play and Pause are over by now; an unknown verb is a warning to the carrier, and skipped.
      return 'next';
  }
}

function resolve(url: string, document_url: string): string {
  const resolved = URL.parse(url, document_url);
  if (resolved?.protocol === 'http:' || resolved?.protocol === 'https:') return resolved.href;
  throw new ScriptFailure(11100, `Invalid URL format: ${url}`);
}
