import { type Database, queryGlobal } from './database.ts';
import {
  GRANTABLE,
  type Grantable,
  grantKey,
  GRANTS_IN_REACH,
  type LoginNames,
  type ReachingGrant,
  wantedGrants,
} from './grants.ts';

export interface AccessDifference {
  /** What the logins may do and this release does not give them, as `UPDATE on audit_events`. */
  extra: { login: string; what: string; via: string | null }[];
  /** What this release gives them and they may not do. */
  missing: { login: string; what: string }[];
}

/** Compares what the logins may do, by whatever way, with what this release gives them. */
export async function compareAccess(db: Database, logins: LoginNames): Promise<AccessDifference> {
  const [grantable] = await queryGlobal<Grantable>(db, GRANTABLE);
  if (!grantable) throw new Error('the catalog gave no row');
  const wanted = new Map(wantedGrants(logins, grantable).map((grant) => [grantKey(grant), grant]));
  const present = await queryGlobal<ReachingGrant>(db, GRANTS_IN_REACH, [logins.app, logins.discovery]);
  const there = new Set(present.map(grantKey));
  const described = (grant: Pick<ReachingGrant, 'grantee' | 'kind' | 'object' | 'column' | 'privilege'>) => ({
    login: grant.grantee ?? '',
    what: `${grant.privilege} on ${grant.kind === 'SCHEMA' ? 'the schema' : grant.object}${grant.column === null ? '' : `.${grant.column}`}`,
  });
  return {
    extra: present
      .filter((grant) => !wanted.has(grantKey(grant)))
      .map((grant) => ({ ...described(grant), via: grant.via })),
    missing: [...wanted.values()].filter((grant) => !there.has(grantKey(grant))).map(described),
  };
}

/** A hole in the walls: what is wrong with a table, and the statement of its owner that mends it. */
export interface WallFault {
  table: string;
  fault: string;
  mend: string;
}

/** Tables of businesses without row security, forced, or whose policies are not the one that every business stands behind. */
export async function findWallFaults(db: Database, { app, discovery }: LoginNames): Promise<WallFault[]> {
  return await queryGlobal<WallFault>(
    db,
    `WITH walled AS (
       SELECT c.oid, c.relname::text AS name, c.relrowsecurity, c.relforcerowsecurity
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'business_id' AND NOT a.attisdropped
        WHERE n.nspname = 'carillon' AND c.relkind IN ('r', 'p')),
     wall AS (SELECT $3::text AS condition)
     SELECT name AS "table", 'its row security is off' AS fault,
            format('ALTER TABLE carillon.%I ENABLE ROW LEVEL SECURITY', name) AS mend
       FROM walled WHERE NOT relrowsecurity
     UNION ALL
     SELECT name, 'its row security is not forced', format('ALTER TABLE carillon.%I FORCE ROW LEVEL SECURITY', name)
       FROM walled WHERE NOT relforcerowsecurity
     UNION ALL
     SELECT name, 'its policy business_wall is missing or another',
            format('DROP POLICY IF EXISTS business_wall ON carillon.%I; CREATE POLICY business_wall ON carillon.%I USING %s WITH CHECK %s',
                   name, name, wall.condition, wall.condition)
       FROM walled, wall WHERE NOT EXISTS (
         SELECT FROM pg_policy p WHERE p.polrelid = walled.oid AND p.polname = 'business_wall' AND p.polcmd = '*'
            AND p.polpermissive AND p.polroles = '{0}' AND pg_get_expr(p.polqual, p.polrelid) = wall.condition
            AND pg_get_expr(p.polwithcheck, p.polrelid) = wall.condition)
     UNION ALL
     SELECT name, format('its policy %I opens it', p.polname), format('DROP POLICY %I ON carillon.%I', p.polname, name)
       FROM walled JOIN pg_policy p ON p.polrelid = walled.oid
      WHERE p.polpermissive AND p.polname <> 'business_wall'
        AND NOT (p.polname = 'discovery_read' AND p.polcmd = 'r'
                 AND p.polroles = ARRAY(SELECT oid FROM pg_roles WHERE rolname = $2))
        AND EXISTS (SELECT FROM pg_roles l WHERE l.rolname IN ($1, $2)
                      AND (0 = ANY (p.polroles) OR EXISTS (
                        SELECT FROM unnest(p.polroles) o WHERE o <> 0 AND pg_has_role(l.oid, o, 'MEMBER'))))
     ORDER BY 1, 2`,
    [app, discovery, "(business_id = (current_setting('carillon.business_id'::text))::bigint)"],
  );
}
