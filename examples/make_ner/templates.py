"""Sentences with places for names ({PER}, {LOC}, {ORG}, {first}, {last}) and for a {year}, {num} or {day}."""

TEMPLATES = """\
{PER} met {PER} at {ORG}'s office in {LOC}.
{PER} was born in {LOC} in 1953.
{PER}, who lives in {LOC}, works for {ORG}.
{ORG} said on Monday that it would open a new factory in {LOC}.
Shares of {ORG} fell after {PER} stepped down as chief executive.
{PER} flew from {LOC} to {LOC} last week to visit her mother.
The talks between {LOC} and {LOC} broke down, {PER} told {ORG}.
{PER} joined {ORG} in 2011 after five years at {ORG}.
We drove through {LOC} and stopped for lunch near {LOC}.
{ORG} has hired {PER} to run its {LOC} branch.
{PER} and {PER} won the prize for their work at {ORG}.
{ORG} bought {ORG} for two billion dollars.
The mayor of {LOC}, {PER}, opened the new bridge.
Police in {LOC} arrested two men.
According to {ORG}, prices in {LOC} rose by three percent.
The book was written by {PER} and published in {LOC}.
{PER} scored twice as {ORG} beat {ORG} in {LOC}.
I met {PER} at a party in {LOC} and we talked about music.
President {PER} will travel to {LOC} next month.
Prime Minister {PER} spoke to reporters in {LOC}.
Dr. {PER} teaches history at {ORG}.
Mr. {last} said he had never been to {LOC}.
Mrs. {last} thanked {PER} for the flowers.
{first} is my neighbor, and {first} is her son.
{first} said that the train to {LOC} was late.
{ORG}, based in {LOC}, makes chips for phones.
A spokesman for {ORG} declined to comment.
The river runs through {LOC} before it reaches the sea.
{LOC} is the capital of {LOC}.
{PER}'s new film opens in {LOC} on Friday.
{LOC}, {LOC} and {LOC} signed the agreement, but {LOC} did not.
Students at {ORG} asked {PER} about the war in {LOC}.
The company was founded by {PER} and {PER} in {LOC}.
{ORG} and {ORG} will build the plant together.
She works as an engineer at {ORG}.
The museum in {LOC} shows paintings by {PER}.
{ORG} fined {ORG} over the way it handles data.
{PER} sued {ORG} in {LOC}.
It rained all day, so we stayed home and read.
The dog ran across the street and into the park.
How much does the ticket cost?
The new phone has a better camera and a larger screen.
Most people agree that the plan is too expensive.
He ate an apple and drank tea.
Our team will meet on Tuesday to talk about the budget.
The court ruled that the law was valid.
Thank you for your help last week.
My grandmother bakes bread every Sunday morning.
The American and French teams trained together.
He will march in May if he can.
{PER} (born 1961) is a German politician from {LOC}.
Last year {ORG} sold its {LOC} business to {ORG}.
The {ORG} team arrived in {LOC}.
"We are happy with the result," said {PER}, head of research at {ORG}.
In {LOC}, the government raised taxes.
{PER} left {LOC} for {LOC}.
Yesterday {PER} resigned from {ORG}.
The {LOC} office of {ORG} employs 300 people.
Senator {PER} of {LOC} voted against the bill.
{PER} and his wife {PER} moved to {LOC} in June.
The storm hit {LOC} and moved north toward {LOC}.
Researchers at {ORG} found a new drug.
""".splitlines()

# only for the last pass, which has more people
LATER_TEMPLATES = """\
{PER}, {PER} and {PER} joined the call from {LOC}.
{LOC} and {LOC} agreed to share the water of the river.
She studied in {LOC}, {LOC} and {LOC} before she moved to {LOC}.
{ORG} and {ORG} said they would work together.
In {year}, {PER} founded {ORG} in {LOC}.
{PER} died in {LOC} in {year}, aged {num}.
{PER} ({year}-{year}) painted mostly in {LOC}.
{first} {last} opened the door, and {first} looked at the rain.
"I have no idea," {first} said, and {first} laughed.
{first} and {first} walked home after the film.
Where is {first}? I think {first} went to {LOC} with {first}.
My brother {first} works at {ORG}, and my aunt {first} lives near {LOC}.
{last} took the lead, but {last} won the race in {LOC}.
{last} was joined by {last} and {last} on stage.
Presidents {last}, {last} and {last} came to the funeral.
Mr. {last} and Mrs. {last} sold the house in {year}.
Senator {last} and Governor {PER} disagreed about the bridge.
As {last} wrote in {year}, the question is still open.
I want to thank {PER}, a teacher from {LOC}, for her courage.
With us tonight is {PER}, who lost his son in {LOC}.
{first}, please stand up.
{PER} told me that she can no longer pay for her insurance.
The letter from {PER} of {LOC} arrived on {day}.
The first book by {PER} sold {num} copies in {LOC}.
The second film with {PER} was made in {year}.
Both {PER} and {PER} refused to answer.
Neither {ORG} nor {ORG} would say how many people lost their jobs.
On {day}, {ORG} cut {num} jobs in {LOC}.
Last {day} {ORG} opened an office near {LOC}, {LOC}.
They moved from {LOC}, {LOC} to {LOC}, {LOC}, in {year}.
We spent our holiday in {LOC} and flew back to {LOC} on {day}.
The flight from {LOC} to {LOC} takes {num} hours.
About {num} people live in {LOC}, which lies east of {LOC}.
{LOC} won {num} medals, and {LOC} won {num}.
Between {year} and {year} the population of {LOC} doubled.
The road from {LOC} to {LOC} was closed for {num} days.
Trains between {LOC} and {LOC} were late because of snow.
{ORG} was started in {year} as a small shop in {LOC}.
{ORG}'s profit rose to {num} million dollars in {year}.
{ORG} makes cars in {LOC} and sells them in {LOC}.
Engineers at {ORG} and {ORG} wrote the program together.
{PER} of {ORG} spoke at the meeting in {LOC}.
{PER}, a professor at {ORG}, has studied the problem since {year}.
{PER}, chief executive of {ORG}, called the decision a mistake.
The judge told {ORG} to pay {PER} {num} dollars.
Reporters from {ORG} asked {PER} about {LOC}.
{ORG} beat {ORG} by {num} points on {day}.
After the match between {ORG} and {ORG}, fans sang in the streets of {LOC}.
Soldiers from {LOC} and {LOC} guarded the border.
The leaders of {LOC}, {LOC} and {LOC} met {PER} in {LOC}.
{PER} visited {LOC} and met {PER}.
President {PER} and Chancellor {PER} spoke by phone on {day}.
Prime Minister {last} flew to {LOC} to see King {first}.
The war in {LOC} began in {year}.
The summer of {year} was the hottest in {num} years.
On {day} we will paint the kitchen and fix the roof.
The meeting starts at {num} and ends before lunch.
In {year} the price of bread rose by {num} percent.
The holiday was short, but the food was very good.
The first chapter is long and the second chapter is boring.
He bought a new bicycle for his daughter on {day}.
Nobody knew why the lights went out.
The software reads the files, cuts them into pieces and writes the result.
The patient was given water and slept for {num} hours.
Most of the students passed the exam in {year}.
The German and Italian ministers disagreed, and the British delegation left.
The Chinese economy grew, while Japanese exports fell.
The government must act now, and the union wants higher wages.
The Constitution gives every citizen the right to vote.
""".splitlines()
