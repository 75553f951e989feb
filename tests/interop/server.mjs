// The server for the tests in main.rs: oidc-provider, configured like Logto.
//
//   node server.mjs MAJOR PORT
//
// The server reads commands from stdin, one per line, and writes a line of JSON to stdout after
// each command:
//   KEYS        starts the server with the private keys in this JSON array. If the array is empty,
//               the server generates a key for ES384.
//   rotate ALG  signs with a new key. The previous signing key stays published, but older keys are
//               removed.
//   count       only makes the server write its line of JSON.
// Each line of JSON contains the port, the private keys, the `kid` of the signing key, and the
// number of requests per path. The process ends when stdin is closed.

import { createHash, generateKeyPair } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const [major, port] = process.argv.slice(2);
// Hides the advice about production use that oidc-provider prints.
console.info = console.warn = () => {};
const { Provider, errors } = await import(`oidc-provider-${major}`);

const SHOP = 'https://shopping.api';
const ORGANIZATION = 'urn:logto:organization:';

// The data that Logto keeps in its database. `ttl` is the lifetime of tokens in seconds.
const resources = new Map([
  [SHOP, { ttl: 3600 }],
  ['https://brief.api', { ttl: 2 }],
  ['https://other.api', { ttl: 3600 }],
  // Logto reserves this resource. Any machine-to-machine app can get a token for this resource,
  // with every organization scope.
  ['urn:logto:resource:organizations', { ttl: 3600, everyApp: ['invite:member'] }],
]);
const apps = {
  reader: {
    // The client must encode this secret (RFC 6749 §2.3.1).
    secret: 'a+b%2Fc:d&e=f/g',
    authentication: 'client_secret_basic',
    scopes: {
      [SHOP]: ['read:products'],
      'https://brief.api': ['read:products'],
      'https://other.api': ['read:products'],
    },
    organizations: {
      acme: { own: ['invite:member'], scopes: { [SHOP]: ['read:orders'] } },
      globex: { own: [], scopes: {} },
    },
  },
  writer: {
    secret: 'writer secret',
    authentication: 'client_secret_post',
    scopes: { [SHOP]: ['read:products', 'write:products'] },
    organizations: {},
  },
};

const algorithms = ['RS256', 'PS256', 'ES256', 'ES384', 'ES512'];
const keyTypes = {
  ES384: ['ec', { namedCurve: 'P-384' }],
  RS256: ['rsa', { modulusLength: 4096 }],
};

const generate = async (algorithm) => {
  const { privateKey } = await promisify(generateKeyPair)(...keyTypes[algorithm]);
  const jwk = privateKey.export({ format: 'jwk' });
  return { ...jwk, use: 'sig', kid: thumbprint(jwk) };
};

/** Returns the thumbprint of a key (RFC 7638). */
const thumbprint = ({ kty, crv, x, y, e, n }) => {
  const members = kty === 'EC' ? { crv, kty, x, y } : { e, kty, n };
  return createHash('sha256').update(JSON.stringify(members)).digest('base64url');
};

const algorithmOf = ({ kty }) => (kty === 'EC' ? 'ES384' : 'RS256');

/**
 * Logto replaces oidc-provider's client credentials grant with its own implementation, which has
 * the parameter `organization_id`. This server reads the parameter from the request body.
 */
const organizationIn = (ctx) => ctx.oidc.body?.organization_id;

const grantedScopes = (ctx, indicator, { clientId }) => {
  const { scopes, organizations } = apps[clientId];
  const organization = organizationIn(ctx);
  if (organization && !organizations[organization]) {
    const error = new errors.AccessDenied('app has not associated with the organization');
    error.statusCode = 403;
    throw error;
  }
  if (indicator.startsWith(ORGANIZATION)) return organizations[organization].own;
  const granted = organization ? organizations[organization].scopes : scopes;
  return granted[indicator] ?? resources.get(indicator).everyApp ?? [];
};

const buildProvider = (issuer, keys) => {
  const algorithm = algorithmOf(keys[0]);
  const clients = Object.entries(apps).map(([id, { secret, authentication }]) => ({
    client_id: id,
    client_secret: secret,
    token_endpoint_auth_method: authentication,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    id_token_signed_response_alg: algorithm,
  }));
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: ['interop'] },
    enabledJWA: {
      idTokenSigningAlgValues: algorithms,
      userinfoSigningAlgValues: algorithms,
      introspectionSigningAlgValues: algorithms,
    },
    clientDefaults: { id_token_signed_response_alg: algorithm },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx) => {
          const organization = organizationIn(ctx);
          if (organization) return ORGANIZATION + organization;
          throw new errors.InvalidTarget('both `resource` and `organization_id` are not provided');
        },
        useGrantedResource: () => false,
        getResourceServerInfo: (ctx, indicator, client) => {
          const asOrganization = indicator === ORGANIZATION + organizationIn(ctx);
          if (!resources.has(indicator) && !asOrganization) throw new errors.InvalidTarget();
          return {
            audience: indicator,
            scope: grantedScopes(ctx, indicator, client).join(' '),
            accessTokenTTL: resources.get(indicator)?.ttl ?? 3600,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: algorithm } },
          };
        },
      },
    },
    extraTokenClaims: (ctx, { aud }) => {
      const organization = organizationIn(ctx);
      return organization && !aud.startsWith(ORGANIZATION)
        ? { organization_id: organization }
        : undefined;
    },
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route === 'jwks') {
      ctx.set('Cache-Control', 'no-cache, max-age=0, must-revalidate');
      ctx.etag = createHash('sha256').update(JSON.stringify(ctx.body)).digest('base64url');
      if (ctx.fresh) ctx.status = 304;
    }
    if (ctx.oidc?.route === 'token' && ctx.status === 200 && !ctx.oidc.body.resource) {
      ctx.body = { ...ctx.body, scope: ctx.body.scope ?? '' };
    }
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider.callback();
};

let keys;
let issuer;
let oidc;
const requests = {};

const server = createServer((request, response) => {
  requests[request.url] = (requests[request.url] ?? 0) + 1;
  if (!request.url.startsWith('/oidc/')) return response.writeHead(404).end();
  request.originalUrl = request.url;
  request.url = request.url.slice('/oidc'.length);
  return oidc(request, response);
});

/** Replaces the Provider in the same process and on the same socket, as Logto does. */
const publish = (newKeys) => {
  keys = newKeys;
  oidc = buildProvider(issuer, keys);
};

const answer = () =>
  process.stdout.write(
    `${JSON.stringify({ port: server.address().port, keys, kid: keys[0].kid, requests })}\n`,
  );

const start = async (given) => {
  const own = given.length > 0 ? given : [await generate('ES384')];
  await new Promise((listening) => server.listen(Number(port), '127.0.0.1', listening));
  issuer = `http://127.0.0.1:${server.address().port}/oidc`;
  publish(own);
};

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit());
for await (const line of lines) {
  const [command, argument] = line.split(' ');
  if (command === 'rotate') publish([await generate(argument), keys[0]]);
  else if (command !== 'count') await start(JSON.parse(line));
  answer();
}
