"""The wording of the generated passages: kinds of entities, their attributes and all paraphrases, as data.

`{e}` stands for the entity, `{v}` for the value, `{k}` for the word that names the kind; alternatives are
separated by ` | `. A predicate follows its subject, so that predicates can be joined, put into relative
clauses or continue a pronoun; a sentence stands alone; a question asks for the value, a reverse question
for the entity. Value types are shared by many attributes on purpose: the type of an answer never tells
which fact is meant.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """One thing a passage can say about an entity, with its paraphrases."""

    value: str
    predicates: tuple[str, ...]
    sentences: tuple[str, ...]
    questions: tuple[str, ...]
    reverse: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of entity: how it is named, mentioned and referred to, and its attributes by name."""

    name: str
    words: tuple[str, ...]
    mentions: tuple[str, ...]
    attributes: dict[str, Attribute]

    @property
    def animate(self) -> bool:
        """Whether the entity is a she or a he rather than an it."""
        return self.name == "person"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(" | "))


def _attribute(value: str, predicates: str, sentences: str, questions: str, reverse: str) -> Attribute:
    return Attribute(value, _split(predicates), _split(sentences), _split(questions), _split(reverse))


_TOWN = {
    "founder": _attribute(
        "person",
        "was founded by {v} | owes its beginnings to {v} | was first settled by {v}",
        "{v} founded {e} | the founder of {e} was {v} | it was {v} who established {e}",
        "Who founded {e}? | By whom was {e} established? | Who was the founder of {e}? | Who first settled {e}?",
        "Which {k} was founded by {v}? | What {k} did {v} establish?",
    ),
    "founded": _attribute(
        "year",
        "was founded in {v} | was established in {v} | dates from {v}",
        "in {v} the first houses of {e} were built | the charter of {e} was signed in {v}",
        "When was {e} founded? | In what year was {e} established? | From which year does {e} date?",
        "Which {k} dates from {v}? | What {k} was established in {v}?",
    ),
    "mayor": _attribute(
        "person",
        "is governed by {v} | has {v} as its mayor | elected {v} to lead its council",
        "the mayor of {e} is {v} | {v} serves as mayor of {e} | {v} governs {e}",
        "Who is the mayor of {e}? | Who governs {e}? | Who leads the council of {e}?",
        "Where does {v} serve as mayor? | Which {k} is governed by {v}?",
    ),
    "inhabitants": _attribute(
        "number",
        "has {v} inhabitants | is home to {v} people | counts {v} residents",
        "about {v} people live in {e} | the population of {e} is {v}",
        "How many people live in {e}? | What is the population of {e}? | How many inhabitants does {e} have?",
        "Which {k} has {v} inhabitants? | What {k} is home to {v} people?",
    ),
    "river": _attribute(
        "river",
        "lies on the {v} | stands beside the {v} | was built where the {v} bends",
        "the {v} flows through {e} | the river that runs past {e} is the {v}",
        "Which river flows through {e}? | On what river does {e} lie? | What river runs past {e}?",
        "Which {k} lies on the {v}? | What {k} does the {v} flow through?",
    ),
    "trade": _attribute(
        "product",
        "is known for its {v} | lives by selling {v} | grew rich on {v}",
        "merchants come to {e} for its {v} | {v} made {e} famous",
        "What is {e} known for? | What made {e} famous? | What do merchants buy in {e}?",
        "Which {k} is famous for its {v}? | What {k} grew rich on {v}?",
    ),
}

_SHIP = {
    "captain": _attribute(
        "person",
        "was commanded by {v} | sailed under {v} | had {v} as captain",
        "{v} commanded {e} | the captain of {e} was {v}",
        "Who commanded {e}? | Who was the captain of {e}? | Under whom did {e} sail?",
        "Which {k} was commanded by {v}? | On what {k} was {v} the captain?",
    ),
    "port": _attribute(
        "place",
        "was based in {v} | had its home port in {v} | always returned to {v}",
        "the home port of {e} was {v} | sailors in {v} repaired {e} each winter",
        "What was the home port of {e}? | Where was {e} based? | To which port did {e} return?",
        "Which {k} was based in {v}? | What {k} had {v} as its home port?",
    ),
    "launched": _attribute(
        "year",
        "was launched in {v} | left the yard in {v} | first sailed in {v}",
        "in {v} a shipyard completed {e} | the launch of {e} took place in {v}",
        "When was {e} launched? | In which year did {e} leave the yard? | When did {e} first sail?",
        "Which {k} was launched in {v}? | What {k} first sailed in {v}?",
    ),
    "cargo": _attribute(
        "product",
        "carried {v} | was loaded with {v} | transported {v}",
        "the hold of {e} was full of {v} | {v} filled the deck of {e}",
        "What did {e} carry? | What was the cargo of {e}? | With what was {e} loaded?",
        "Which {k} carried {v}? | What {k} was loaded with {v}?",
    ),
    "crew": _attribute(
        "number",
        "had a crew of {v} | needed {v} sailors | was manned by {v} hands",
        "a crew of {v} worked on {e} | {v} sailors served aboard {e}",
        "How many sailors served aboard {e}? | How large was the crew of {e}? | How many hands manned {e}?",
        "Which {k} had a crew of {v}? | What {k} needed {v} sailors?",
    ),
    "hull": _attribute(
        "colour",
        "was painted {v} | had a {v} hull | could be told by its {v} sides",
        "the hull of {e} was {v} | painters made {e} {v} from bow to stern",
        "What colour was {e}? | What colour was the hull of {e}? | In which colour was {e} painted?",
        "Which {k} was painted {v}? | What {k} had a {v} hull?",
    ),
}

_PERSON = {
    "birthplace": _attribute(
        "place",
        "was born in {v} | came from {v} | grew up in {v}",
        "the birthplace of {e} was {v} | a small house in {v} was the childhood home of {e}",
        "Where was {e} born? | What was the birthplace of {e}? | From where did {e} come? | Where did {e} grow up?",
        "Who was born in {v}? | Who came from {v}? | Who grew up in {v}?",
    ),
    "born": _attribute(
        "date",
        "was born on {v} | came into the world on {v}",
        "the birth of {e} was recorded on {v} | on {v} {e} was born",
        "When was {e} born? | On what date was {e} born? | What was the birthday of {e}?",
        "Who was born on {v}? | Whose birth was recorded on {v}?",
    ),
    "job": _attribute(
        "job",
        "worked as a {v} | earned a living as a {v} | became a {v}",
        "by profession {e} was a {v} | neighbours knew {e} as the {v}",
        "What was the profession of {e}? | What did {e} work as? | How did {e} earn a living? | What was {e} by trade?",
        "Who worked as a {v}? | Who was a {v} by profession?",
    ),
    "studied": _attribute(
        "subject",
        "studied {v} | took a degree in {v} | attended lectures on {v}",
        "at the university {e} read {v} | the subject that {e} studied was {v}",
        "What did {e} study? | Which subject did {e} read at the university? | In what did {e} take a degree?",
        "Who studied {v}? | Who took a degree in {v}?",
    ),
    "instrument": _attribute(
        "instrument",
        "played the {v} | performed on the {v} | owned an old {v}",
        "friends heard {e} practise the {v} | the {v} was the instrument of {e}",
        "Which instrument did {e} play? | What did {e} perform on? | What instrument did {e} own?",
        "Who played the {v}? | Who performed on the {v}?",
    ),
    "spouse": _attribute(
        "person",
        "married {v} | was the spouse of {v} | shared a house with {v}",
        "the wedding of {e} and {v} was a quiet one",
        "Whom did {e} marry? | Who was the spouse of {e}? | With whom did {e} share a house?",
        "Who married {v}? | Who shared a house with {v}?",
    ),
    "pets": _attribute(
        "number",
        "kept {v} pigeons | raised {v} pigeons | looked after {v} pigeons",
        "{v} pigeons belonged to {e} | in the loft of {e} lived {v} pigeons",
        "How many pigeons did {e} keep? | How many birds belonged to {e}? | How many pigeons did {e} raise?",
        "Who kept {v} pigeons? | Who looked after {v} birds?",
    ),
}

_COMPANY = {
    "founder": _attribute(
        "person",
        "was started by {v} | was set up by {v} | goes back to {v}",
        "{v} started {e} | the founder of {e} was {v}",
        "Who started {e}? | Who was the founder of {e}? | Who set up {e}?",
        "Which {k} was started by {v}? | What {k} did {v} set up?",
    ),
    "director": _attribute(
        "person",
        "is run by {v} | is managed by {v} | appointed {v} as director",
        "the director of {e} is {v} | {v} manages {e}",
        "Who runs {e}? | Who is the director of {e}? | Who manages {e}?",
        "Which {k} is run by {v}? | What {k} does {v} manage?",
    ),
    "seat": _attribute(
        "place",
        "has its headquarters in {v} | is based in {v} | keeps its offices in {v}",
        "the headquarters of {e} are in {v} | clerks in {v} do the accounts of {e}",
        "Where is {e} based? | Where are the headquarters of {e}? | Where does {e} keep its offices?",
        "Which {k} is based in {v}? | What {k} has its headquarters in {v}?",
    ),
    "goods": _attribute(
        "product",
        "makes {v} | manufactures {v} | sells {v}",
        "customers buy {v} from {e} | the main product of {e} is {v}",
        "What does {e} make? | What is the main product of {e}? | What can be bought from {e}?",
        "Which {k} makes {v}? | What {k} sells {v}?",
    ),
    "staff": _attribute(
        "number",
        "employs {v} people | has a staff of {v} | gives work to {v} people",
        "{v} people work for {e} | on the payroll of {e} are {v} workers",
        "How many people does {e} employ? | How many workers does {e} have? | How large is the staff of {e}?",
        "Which {k} employs {v} people? | What {k} has a staff of {v}?",
    ),
    "opened": _attribute(
        "year",
        "opened in {v} | began business in {v} | was registered in {v}",
        "in {v} {e} opened its doors | the first order reached {e} in {v}",
        "When did {e} open? | In what year did {e} begin business? | When was {e} registered?",
        "Which {k} opened in {v}? | What {k} was registered in {v}?",
    ),
}

_BOOK = {
    "author": _attribute(
        "person",
        "was written by {v} | is the work of {v} | came from the pen of {v}",
        "{v} wrote {e} | the author of {e} is {v}",
        "Who wrote {e}? | Who is the author of {e}? | By whom was {e} written?",
        "Which {k} was written by {v}? | What {k} did {v} write?",
    ),
    "translator": _attribute(
        "person",
        "was translated by {v} | reached foreign readers through {v}",
        "{v} translated {e} | the translation of {e} is due to {v}",
        "Who translated {e}? | Who made the translation of {e}?",
        "Which {k} was translated by {v}? | What {k} did {v} translate?",
    ),
    "published": _attribute(
        "year",
        "appeared in {v} | was published in {v} | was first printed in {v}",
        "in {v} a small press printed {e} | the first edition of {e} is from {v}",
        "When was {e} published? | In which year did {e} appear? | When was {e} first printed?",
        "Which {k} was published in {v}? | What {k} appeared in {v}?",
    ),
    "pages": _attribute(
        "number",
        "has {v} pages | runs to {v} pages | fills {v} pages",
        "readers of {e} turn {v} pages | the length of {e} is {v} pages",
        "How many pages does {e} have? | How long is {e}? | To how many pages does {e} run?",
        "Which {k} has {v} pages? | What {k} runs to {v} pages?",
    ),
    "topic": _attribute(
        "subject",
        "deals with {v} | is about {v} | explains {v}",
        "the subject of {e} is {v} | students of {v} still read {e}",
        "What is {e} about? | What is the subject of {e}? | With what does {e} deal?",
        "Which {k} is about {v}? | What {k} deals with {v}?",
    ),
    "cover": _attribute(
        "colour",
        "has a {v} cover | is bound in {v} | stands out by its {v} jacket",
        "the cover of {e} is {v} | a {v} binding protects {e}",
        "What colour is the cover of {e}? | In which colour is {e} bound? | What colour is {e}?",
        "Which {k} has a {v} cover? | What {k} is bound in {v}?",
    ),
}

_BRIDGE = {
    "architect": _attribute(
        "person",
        "was designed by {v} | follows the plans of {v} | is a creation of {v}",
        "{v} designed {e} | the architect of {e} was {v}",
        "Who designed {e}? | Who was the architect of {e}? | Whose plans does {e} follow?",
        "Which {k} was designed by {v}? | What {k} did {v} design?",
    ),
    "material": _attribute(
        "material",
        "is made of {v} | was constructed from {v} | consists of {v}",
        "masons used {v} for {e} | {v} was chosen as the material of {e}",
        "What is {e} made of? | Which material was used for {e}? | From what was {e} constructed?",
        "Which {k} is made of {v}? | What {k} was constructed from {v}?",
    ),
    "height": _attribute(
        "length",
        "is {v} high | rises {v} above the ground | reaches a height of {v}",
        "the height of {e} is {v} | surveyors found {e} to be {v} tall",
        "How high is {e}? | What is the height of {e}? | How tall is {e}?",
        "Which {k} is {v} high? | What {k} reaches a height of {v}?",
    ),
    "site": _attribute(
        "place",
        "stands in {v} | can be seen in {v} | was erected in {v}",
        "visitors find {e} in {v} | the people of {v} are proud of {e}",
        "Where does {e} stand? | Where was {e} erected? | Where can {e} be seen?",
        "Which {k} stands in {v}? | What {k} was erected in {v}?",
    ),
    "completed": _attribute(
        "year",
        "was completed in {v} | was finished in {v} | was inaugurated in {v}",
        "in {v} the last stone of {e} was laid | builders left {e} in {v}",
        "When was {e} completed? | In what year was {e} finished? | When was {e} inaugurated?",
        "Which {k} was completed in {v}? | What {k} was inaugurated in {v}?",
    ),
    "cost": _attribute(
        "number",
        "cost {v} crowns | was paid for with {v} crowns | swallowed {v} crowns",
        "{v} crowns were spent on {e} | the price of {e} was {v} crowns",
        "How much did {e} cost? | How many crowns were spent on {e}? | What was the price of {e}?",
        "Which {k} cost {v} crowns? | What {k} was paid for with {v} crowns?",
    ),
}

_FESTIVAL = {
    "date": _attribute(
        "date",
        "took place on {v} | was held on {v} | opened on {v}",
        "crowds gathered on {v} for {e} | the day of {e} was {v}",
        "When did {e} take place? | On what date was {e} held? | On which day did {e} open?",
        "Which {k} took place on {v}? | What {k} was held on {v}?",
    ),
    "venue": _attribute(
        "place",
        "was celebrated in {v} | filled the streets of {v} | was staged in {v}",
        "the host of {e} was {v} | guests travelled to {v} for {e}",
        "Where was {e} celebrated? | Where was {e} staged? | Whose streets did {e} fill?",
        "Which {k} was celebrated in {v}? | What {k} was staged in {v}?",
    ),
    "organiser": _attribute(
        "person",
        "was organised by {v} | was planned by {v} | was in the hands of {v}",
        "{v} organised {e} | the organiser of {e} was {v}",
        "Who organised {e}? | Who planned {e}? | In whose hands was {e}?",
        "Which {k} was organised by {v}? | What {k} did {v} plan?",
    ),
    "winner": _attribute(
        "person",
        "was won by {v} | awarded its prize to {v} | ended with a victory for {v}",
        "{v} won the prize at {e} | the winner of {e} was {v}",
        "Who won {e}? | Who was the winner of {e}? | To whom did {e} award its prize?",
        "Which {k} was won by {v}? | At what {k} did {v} win the prize?",
    ),
    "guests": _attribute(
        "number",
        "drew {v} visitors | attracted {v} guests | was attended by {v} people",
        "{v} visitors came to {e} | the gates of {e} counted {v} guests",
        "How many visitors came to {e}? | How many people attended {e}? | How many guests did {e} attract?",
        "Which {k} drew {v} visitors? | What {k} was attended by {v} people?",
    ),
    "dish": _attribute(
        "food",
        "served {v} | offered {v} to everyone | was remembered for its {v}",
        "the guests of {e} ate {v} | cooks at {e} prepared {v}",
        "What was served at {e}? | What did the guests of {e} eat? | What did cooks at {e} prepare?",
        "Which {k} served {v}? | What {k} was remembered for its {v}?",
    ),
}

_ANIMAL = {
    "species": _attribute(
        "animal",
        "is a {v} | belongs to the species {v}",
        "visitors know that {e} is a {v} | on the sign of {e} one reads the word {v}",
        "What kind of animal is {e}? | To which species does {e} belong? | What animal is {e}?",
        "Which {k} is a {v}? | What is the {v} called?",
    ),
    "keeper": _attribute(
        "person",
        "is looked after by {v} | trusts only {v} | is trained by {v}",
        "{v} looks after {e} | the keeper of {e} is {v}",
        "Who looks after {e}? | Who is the keeper of {e}? | Who trains {e}? | Whom does {e} trust?",
        "Which {k} is looked after by {v}? | What {k} does {v} train?",
    ),
    "diet": _attribute(
        "food",
        "eats {v} | is fed on {v} | asks for {v} every morning",
        "the favourite food of {e} is {v} | nothing pleases {e} more than {v}",
        "What does {e} eat? | What is the favourite food of {e}? | On what is {e} fed?",
        "Which {k} eats {v}? | What {k} is fed on {v}?",
    ),
    "origin": _attribute(
        "place",
        "was brought from {v} | arrived from {v} | was found near {v}",
        "a trader from {v} delivered {e} | hunters near {v} caught {e}",
        "From where was {e} brought? | Where was {e} found? | Where did {e} arrive from?",
        "Which {k} was brought from {v}? | What {k} was found near {v}?",
    ),
    "coat": _attribute(
        "colour",
        "has a {v} coat | is {v} all over | shows {v} stripes",
        "the coat of {e} is {v} | in summer {e} turns {v}",
        "What colour is {e}? | What colour is the coat of {e}? | Which colour does {e} show?",
        "Which {k} is {v}? | What {k} has a {v} coat?",
    ),
    "weight": _attribute(
        "weight",
        "weighs {v} | has a weight of {v} | brings {v} onto the scales",
        "the weight of {e} is {v} | at the last check {e} reached {v}",
        "How much does {e} weigh? | What is the weight of {e}? | How heavy is {e}?",
        "Which {k} weighs {v}? | What {k} brings {v} onto the scales?",
    ),
}

KINDS = (
    Kind("town", ("town", "settlement", "village"), ("{n}", "{n}", "the {k} of {n}"), _TOWN),
    Kind("ship", ("ship", "vessel", "sailing ship"), ("the {n}", "the {n}", "the {k} {n}"), _SHIP),
    Kind("person", ("person",), ("{n}",), _PERSON),
    Kind("company", ("company", "firm", "business"), ("{n}", "{n}", "the {k} {n}"), _COMPANY),
    Kind("book", ("book", "volume", "work"), ("{n}", "{n}", "the {k} {n}"), _BOOK),
    Kind("bridge", ("building", "structure", "landmark"), ("the {n}", "the {n}", "the {k} {n}"), _BRIDGE),
    Kind("festival", ("festival", "event", "celebration"), ("the {n}", "the {n}", "the {k} {n}"), _FESTIVAL),
    Kind("animal", ("animal", "creature"), ("{n}", "{n}", "the {k} {n}"), _ANIMAL),
)

OPENINGS = (
    "as the records show, ", "according to old letters, ", "it is said that ", "as far as anyone knows, ",
    "strangely enough, ", "to the surprise of many, ", "as a guide explains, ", "by all accounts, ",
)  # fmt: skip

FILLERS = (
    "The weather was mild that year.", "Little else is recorded.", "Nobody remembers the reason.",
    "Several letters in the archive mention this.", "Opinions on the matter differ.",
    "A map in the museum shows the region.", "Newspapers wrote about it at length.",
    "Travellers still tell stories about those years.", "The old road has long been closed.",
    "Some historians doubt these accounts.", "Not all of the documents survived.",
)  # fmt: skip
