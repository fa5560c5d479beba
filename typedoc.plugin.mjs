/**
 * Of what a service's class inherits from `Context.Tag`, the reference shows its members, once: as `Service`.
 */
import { Converter, ReflectionKind } from "typedoc"

export const load = (app) => {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const tag of project.getReflectionsByKind(ReflectionKind.Class)) {
      for (const member of [...(tag.children ?? [])]) {
        if (member.flags.isInherited && member.name !== "Service") project.removeReflection(member)
      }
    }
  })
}
