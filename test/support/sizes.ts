/**
 * How many jobs the plans are looked at with. A plan that is wrong with a million is wrong with these: the bounds do not
 * grow with the jobs. CARILLON_PLANS_JOBS=1000000 takes a million.
 */
export const plansJobs = Number(process.env.CARILLON_PLANS_JOBS ?? 200_000);
