/** Passwords of URLs, which nothing that is printed may hold. */

const hidden = "***"

/** What stands between the name and the host of a URL. */
const userInfo = /([a-z][a-z\d+.-]*:\/\/)([^\s/?#'"]*)@/gi
/** The same in a text that is a URL, where what should be percent-encoded is not. */
const wholeUserInfo = /^([^:/?#]+:\/\/)(.*)@/gs
const secretParameter = /([?&](?:pass(?:word|wd)?|auth|sslpassword)=)([^\s&#'"]*)/gi

/** As it is meant; as it is written, where it is not percent-encoded. */
export const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Shorter ones would be found within other words. */
const shortest = 4

/** The passwords in these texts, as they are written there and as they are meant. */
export const passwordsIn = (texts: ReadonlyArray<string>): ReadonlyArray<string> => {
  const found = texts.flatMap((text) => [
    ...[...text.matchAll(userInfo), ...text.matchAll(wholeUserInfo)].flatMap(([, , user = ""]) =>
      user.includes(":") ? [user.replace(/^[^:]*:/, "")] : []
    ),
    ...[...text.matchAll(secretParameter)].map(([, , password = ""]) => password)
  ])
  return [...new Set(found.flatMap((password) => [password, decoded(password)]))]
    .filter(({ length }) => length >= shortest)
    .sort((a, b) => b.length - a.length)
}

/** The text without those passwords, and without any of a URL in it. */
export const withoutPasswords = (text: string, passwords: ReadonlyArray<string>): string =>
  passwords.reduce(
    (rest, password) => rest.replaceAll(password, hidden),
    text
      .replace(userInfo, (_, scheme: string, user: string) => `${scheme}${user.replace(/:.*$/, `:${hidden}`)}@`)
      .replace(secretParameter, `$1${hidden}`)
  )
