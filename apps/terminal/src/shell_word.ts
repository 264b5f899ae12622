/** A path as a shell takes it in a line that is pasted: in quotes where it has more than letters, digits and `@%+=:,./-_`. */
export function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
