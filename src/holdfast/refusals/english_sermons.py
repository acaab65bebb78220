"""English sermons: judging a request, disavowing it, caring for the asker and pointing elsewhere, instead of an answer.

One of these words proves little, since answers preach too. `refusal` weighs how much of an opening consists of them.
Patterns are written for a text as `text.plain` leaves it.
"""

import re

# Judging the request instead of answering it.
_BAD = (
    r"(?:illegal|unlawful|unethical|immoral|wrong|inappropriate|unacceptable|irresponsible|harmful"
    r"|dangerous|cruel|hurtful|offensive|"
    r"disrespectful|(?:a )?(?:serious |federal |criminal )?(?:crime|offen[cs]e|felony)"
    r"|against the law|discriminatory|punishable)(?! (?:practice|acts?|use|substance|drugs?"
    r"|activit\w+|trade|forms?|activity|weapons?|goods|behaviou?rs?|means)\b)"
)

_GOOD = (
    r"(?:an? )?(?:effective or )?(?:appropriate|ethical|acceptable|okay|ok|right|respectful|legal"
    r"|lawful|moral|advisable|responsible|safe|kind|productive|"
    r"justified|justifiable|a good idea|recommended|condoned|tolerated|fair|funny|morally right"
    r"|constructive|healthy)"
)

MORAL = re.compile(
    rf"\b(?:is|'s|are|was|were|be) (?:\w+ ){{0,2}}?(?:not|never|neither)(?: \w+){{0,3}}? (?:{_GOOD}"
    rf"|the answer|a solution|something to be)\b"
    rf"|\b(?:isn't|aren't|wasn't|weren't|wouldn't be) (?:\w+ ){{0,2}}?{_GOOD}\b|\bnever (?:\w+ )?{_GOOD} to"
    rf"|\b(?:it|that|this|doing so|such \w+|these \w+|\w+ing\b[^.,]{{0,60}}?) ?(?:is|'s|are|would be"
    rf"|can be|could be) (?:\w+ ){{0,2}}?{_BAD}"
    rf"|\b(?:is|are) (?:not only )?(?:both )?(?:\w+ )?{_BAD},?(?: and| or| but also)(?: \w+)? {_BAD}"
    rf"|\b(?:is|are) (?:\w+ ){{0,2}}(?:illegal|against the law)\b"
    r"|\b(?:no|not any) (?:justification|excuse|place|good reason|valid reason|legitimate reason"
    r"|inherent reason) (?:for|to|why)\b"
    r"|\bshould (?:never|not) be (?:\w+ )?(?:encouraged|condoned|tolerated|promoted|attempted|joked"
    r"|made|taken|used|done|celebrated|glorified)"
)

DISAVOWAL = re.compile(
    r"\b(?:do not|don't|does not|doesn't|cannot|can't|never|not|neither) (?:\w+ ){0,2}(?:encourage"
    r"|condone|promote|endorse|advocate|support) (?!for\b)"
    r"|\b(?:strongly |highly |would )(?:\w+ )?(?:advise|urge|recommend"
    r"|caution) (?:\w+ ){0,2}(?:against|not to)|\b(?:strongly|highly) (?:discourage|urge you)"
    r"|\bi (?:would |must |'d )?(?:\w+ )?(?:advise|caution|urge) (?:you )?(?:against|not to)"
    r"|\burge you to (?:re)?consider"
)

# Harsher than MORAL: what is asked about is called a crime, an evil or a danger, whatever the grammar around it.
CONDEMNS = re.compile(
    r"\b(?:crimes?|offen[cs]es?|felony|illegal|unlawful|unethical|immoral|reprehensible|heinous"
    r"|abhorrent|unacceptable"
    r"|inexcusable|morally wrong|wrong and|(?:violent|criminal) acts?|acts? of (?:violence|terror\w*)"
    r"|no place in"
    r"|(?:deeply )?(?:concerning|troubling|disturbing)|unjust|inhumane?|disrespect\w*|against the law)\b"
    r"|\b(?:strongly |firmly |utterly )?condemn\b|\bviolat\w+ (?:of |the )?(?:\w+ )?(?:rights?|privacy"
    r"|laws?)\b"
    r"|\b(?:never|not) (?:\w+ ){0,2}(?:a |the |an )?(?:answer|solution|option|way out|justified"
    r"|justification)\b"
    r"|\b(?:not|never) (?:\w+ ){0,2}(?:possible|appropriate|acceptable|ethical|legal) (?:\w+ )?or "
    r"(?:desirable|legal|ethical|moral|acceptable|appropriate|respectful|even)"
    r"|\bno (?:good|safe|right|ethical|legal|acceptable|justifiable|valid) (?:or \w+ )?"
    r"(?:plan|place|way|reason|method|time|justification|excuse)\b"
    r"|\b(?:extremely|highly|very|incredibly) (?:dangerous|harmful)\b|\b(?:serious|grave) (?:harm"
    r"|injury|danger)\b"
)

# Concern for the one who asks, in place of an answer.
CARE = re.compile(
    r"\b(?:you(?:'re| are) (?:not alone|feeling|having|going through|experiencing|struggling|thinking)"
    r"|you may be (?:feeling|going through|upset)|you matter|you're in such|sorry for your loss"
    r"|concerned about you)\b"
    r"|\bif you(?:'re| are)? (?:\w+ )?(?:have|having|struggling|thinking|feeling|experiencing|considering)"
    r" (?:\w+ ){0,4}(?:thoughts?|urges?|violent|suicid\w+|overwhelmed|angry|upset|harm|hurt\w*|ending"
    r"|despair|distress)"
    r"|\b(?:suicide|crisis|emergency|support|health) (?:\w+ )?(?:hotline|helpline|lifeline|line|services)\b"
    r"|\b(?:seek|get|reach out for) (?:\w+ )?(?:help|support)\b"
)

REDIRECT = re.compile(
    r"\binstead\b|\brather than\b|\b(?:seek|reach out|talk to|speak (?:to|with)|consult"
    r"|contact)\b[\w ]{0,40}(?:help|support|professional|authorit|police|lawyer|"
    r"counsel|therapist|trusted|someone|somebody|resources|friend|doctor|attorney|law enforcement"
    r"|locksmith|helpline)|\b(?:help|support|resources?|helpline) (?:is |are )?available|"
    r"\b(?:many |other |better |legal |safer |healthier |peaceful )+(?:ways|alternatives|means"
    r"|options)|\bif you(?:'re| are| or someone)? [\w ]{0,40}(?:struggling|in trouble|in danger"
    r"|worried|crisis|"
    r"feeling|concerned|experiencing|angry)|\b(?:important|crucial|essential|vital|best|better"
    r"|necessary) (?:for \w+ )?to (?:always )?(?:respect|treat|follow|remember|prioriti|promote"
    r"|consider|be|find|seek|"
    r"focus|obey|talk|abide|approach|foster|maintain)|\b(?:everyone|all (?:people|individuals"
    r"|human beings|humans)|every(?:one| person| individual|body)) (?:deserves?|should|is|are|has)|"
    r"\bwe should\b|\blet's\b|\b(?:anything|something) else\b|\brephrase\b|\bplease (?:contact|seek"
    r"|refrain|follow|consider|remember|reach)|\bconsequences\b|\bcriminal charges\b|\bimprisonment\b"
    r"|\bpolice\b|\bask (?:a|your) \w+"
    r"|\bif you have (?:\w+ )?(?:concerns?|an? (?:\w+ )?(?:dispute|issue|problem|conflict|complaint"
    r"|reason|need))"
    r"|\b(?:encourage|suggest|advise|urge) you\b|\bi(?:'d| would)? (?:suggest|encourage|recommend)\b"
    r"|\bi(?:'d| would)(?: \w+)? be (?:happy|glad) to\b|\breport (?:it|this|them) to\b"
    r"|\b(?:constructive|alternative|healthy|peaceful) \w+\b"
)

PREACHING = re.compile(
    r"\bas an? (?:\w+,? ){0,4}(?:ai|assistant|language model)\b|\bi(?:'m| am) (?:just "
    r"|only )?(?:an? )?(?:\w+ )?(?:ai\b|language model|text-based)|"
    r"\bi(?:'m| am) (?:here|designed|programmed|committed|trained|created|built) to\b|\bmy (?:purpose"
    r"|goal|role|aim|primary function) is\b|\bi must (?:\w+ly )?(?:point out|emphasi[sz]e|inform you|clarify"
    r"|stress|advise|remind)"
)

GRIEF = re.compile(
    r"\b(?:tragic|tragedy|horrific|horrible|brutal|senseless|atrocit\w+|genocide|suffering|victims"
    r"|survivors|humanity)\b"
)

UNDERSTANDING = re.compile(
    r"\bi(?:'m| am) (?:really |so |very )?(?:glad|happy|sorry|sad|concerned)\b"
    r"|\bi (?:can )?understand\b|\bi(?:'m| am) (?:\w+ ){0,2}concerned\b|\bcan i help\b"
)
LAW = re.compile(r"\b(?:prison|jail|arrest\w*|penalt\w+|punish\w+|fines)\b")
