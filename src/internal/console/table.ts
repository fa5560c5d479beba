/** Tables that a phone shows as cards. The roles keep their meaning where the style takes it away. */
import { type Html, html, visible } from "./html.js"

export interface Column<Row> {
  readonly name: string
  readonly cell: (row: Row) => Html | string
  readonly isNumber?: boolean
  /** Cards leave it out. */
  readonly isZero?: (row: Row) => boolean
}

const numberClass = (isNumber: boolean | undefined): Html | false => isNumber === true && html` class="number"`

const cell = <Row>({ cell, isNumber, isZero, name }: Column<Row>, row: Row): Html => {
  const kind = isZero?.(row) === true ? html` class="number zero"` : numberClass(isNumber)
  return html`<td role="cell" data-label="${name}"${kind}><span>${cell(row)}</span></td>`
}

/** The first column names the row. */
export const table = <Row>(options: {
  readonly caption: string
  readonly columns: ReadonlyArray<Column<Row>>
  readonly rows: ReadonlyArray<Row>
  readonly key: (row: Row) => string
}): Html => {
  const [first, ...others] = options.columns
  return html`<table role="table"><caption class="unseen">${options.caption}</caption>
<thead role="rowgroup"><tr role="row">${options.columns.map(
    (column) => html`<th role="columnheader" scope="col"${numberClass(column.isNumber)}>${column.name}</th>`
  )}</tr></thead>
<tbody role="rowgroup">${options.rows.map(
    (row) =>
      html`<tr role="row" data-key="${options.key(row)}">${first !== undefined && html`<th role="rowheader" scope="row">${first.cell(row)}</th>`}${others.map((column) => cell(column, row))}</tr>`
  )}</tbody></table>`
}

/** A text of the store, as it is. */
export const code = (text: string): Html => html`<code>${visible(text)}</code>`

/** Names and what they stand for. */
export const facts = (rows: ReadonlyArray<readonly [name: string, value: Html | string]>): Html =>
  html`<dl class="facts">${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`
