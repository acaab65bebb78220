"""Refusals in other languages than English: what an assistant will not do, and regrets, at the opening of an answer.

`UNWILLING` pairs an inability or unwillingness of the speaker with something that is asked of assistants, in one
sentence; `REGRET` begins an answer that refuses; `SYMPATHY` is a regret that is none of a refusal (sorry to hear,
sorry for the mix-up). Patterns meet the text as `text.plain` leaves it, and are themselves made even so:
Thai, Bengali and Arabic have several spellings of one letter.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from holdfast.refusals.text import even


class Rules(NamedTuple):
    """Three patterns of one language; `script` is the range of letters without which they cannot match."""

    script: str
    unwilling: str
    regret: str
    sympathy: str


_LATIN = "a-z"
RULES: dict[str, Rules] = {
    "zh": Rules(
        "一-鿿",
        r"(?<![你您他她它])(?<![你您他她]们)(?:无法|無法|不能|不会|不會|不可以|不便|不方便|沒辦法"
        r"|没办法|没有办法|没法|不应该?|不愿意?|不願意?|难以|不被允许)"
        r"[^。,，;!?]{0,14}?(?:提供|帮|幫|协助|協助|回答|满足|滿足|支持|给出|給出|给[你您]|給[你您]"
        r"|参与|參與|讨论|討論|分享|创[建作]|創[建作]|生成"
        r"|编写|編寫|撰写|撰寫|写|寫|"
        r"指导|指導|鼓励|鼓勵|执行|執行|完成[你您这此]|处理[你您这此]|回复|回覆|透露|遵从|遵循[你您]"
        r"|继续|繼續|告诉|告訴|教[你您]|这[样么]做|那[样么]做"
        r"|這[樣麼]做|那[樣麼]做|响应|配合)"
        r"|(?:我|必须|必須|只能|恕我|予以)(?:[^。,，]{0,4})(?:拒绝|拒絕)|我(?:无法|無法|不能|不会|不會)[^。,，;!?]{0,30}?(?:建议|建議)|[无無]能[为為]力|恕(?:我)?(?:难|難|不)(?:从命"
        r"|從命|奉告|能)|爱莫能助|愛莫能助|我不建[议議][你您]?[这這那][样樣么麼]做",
        r"(?:非常|很|十分|真的?|实在|我|我很|我感到|我深感)*(?:抱歉|对不起|對不起|遗憾|遺憾|不好意思)",
        r"(?:听到|聽到|得知|听说|聽說|造成|带来|帶來|误会|誤會|之前|刚才|剛才|久等|让[你您]|讓[你您])",
    ),
    "ja": Rules(
        "ぁ-ヿ",
        r"(?:提供|手伝|伝え|答え|回答|返答|協力|支援|対応|説明|紹介|案内|教え|作成|生成|共有|アドバイス"
        r"|助け|手助け|サポート|応じ|要望|要求|依頼|リクエスト|ご?質問|助言"
        r"|力に|応え|参加|従う|実行|"
        r"お話し|それは|そのような|お見せ|書く|執筆|助長|加担|お勧め)[^。、,]{0,22}?(?:できません"
        r"|出来ません|できない(?:ん|の)?です|できかね|いたしかね"
        r"|致しかね|わけにはいきません|"
        r"いたしません|致しません|(?<!推奨)しません|したくありません|するつもりは|なれません|られません|お断り|控え|差し控え)"
        r"|教え(?:て(?:くれ|あげ|もらえ|やれ))?ません|お断り(?:し|いた|させ)|差し控え(?:させ|ます)|お力になれ|遠慮(?:し|させ)",
        r"(?:大変|誠に|本当に)?(?:申し訳(?:あり|ござい|ない|け)|すみませんが|すいませんが|ごめんなさい"
        r"|恐れ入りますが|恐縮ですが|残念(?:ですが|ながら))",
        r"(?:お待たせ|遅くな|ご迷惑|混乱|誤解|先ほど|間違)",
    ),
    "ko": Rules(
        "가-힣",
        r"(?:제공|말할(?! 수 없이)|말해|이야기해|이야기할|얘기할|보여|동의|승인|허용"
        r"|도와|도움|도울|답변|대답|응답|답을|답할|답해|말씀|안내|지원|알려|협조|설명|작성|생성"
        r"|공유|제안|추천|조언|가르쳐|참여|응할|응하|수행|만들어"
        r"|써 ?드|써 ?줄|이행|처리|논의|들어 ?드|"
        r"해 ?드릴|해 ?줄|따를)[^.!?]{0,16}?(?:수(?:는|가|도)? ?없|"
        r"않겠|않을 것|못합니다|못하겠|못해|못 ?드|어렵습니다|어려울|불가능|안 ?됩니다)"
        r"|(?:저는|나는|이를|요청을|정중히) ?[^.]{0,12}(?:거절|거부)"
        r"|(?:저는|나는) (?:절대 )?(?:그렇게|그런) ?[^.]{0,6}할 수 없",
        r"(?:정말|대단히|매우|저는)? ?(?:죄송(?:합니다|하지만|해요|한데|하게도|스럽)|미안(?:하지만"
        r"|합니다|해요)|"
        r"유감(?:스럽|이지만)|안타깝(?:지만|게도)|아쉽지만)",
        r"(?:들으니|기다리|불편|혼란|늦|착오|오해|일을 겪|마음이)",
    ),
    "ar": Rules(
        "ء-ي",
        r"(?:لا (?:استطيع|يمكنني|يمكننا|نستطيع|اقدر|اتمكن|يسعني|يسمح لي|يجوز لي|اريد|ارغب في)"
        r"|لن (?:استطيع|اتمكن|اقوم|يمكنني)|لست (?:قادر|مخول|مبرمج|مستعد|استطيع|اقدر)|غير قادر|ليس (?:بامكاني"
        r"|بوسعي|في وسعي))"
        r"[^.؟!\n]{0,40}?(?:مساعد|اساعد|تقديم|اقدم|توفير|اوفر|اجاب|اجيب|الرد|ارد|انشاء|كتاب|اكتب"
        r"|مشارك|اشارك|دعم|تلبي|البي|اعطا|اعطي|ذلك|هذا|القيام|تزويد|ازود|التوصي|نصح|شرح|اشرح|اخبار"
        r"|اخبر|"
        r"توجيه|مناقش|تنفيذ|انفذ|توليد|عمل|فعل|افعل|التحدث|الكشف|تشجيع|الاستمرار|معلومات)"
        r"|لن (?:اقدم|اساعد|اعطي|اكتب|اشارك|اجيب|افعل|ازود)|(?:^|\s)(?:ارفض|علي ان ارفض"
        r"|اود ان ارفض)\b|اعتذر عن (?:عدم|تقديم|الاجابة|مساعد)|لا (?:المساعدة|الدعم) "
        r"|^لا (?:استطيع|يمكنني|اقدر)$",
        r"(?:انا |اني |نحن )?(?:جد |حقا )?(?:اسف|اسفة|اسفون|عذرا|اعتذر|نعتذر|معذرة|للاسف|متاسف|يؤسفني"
        r"|مع الاسف)",
        r"(?:سماع|لسماع|معرفة|عن الخط|على الخط|عن التاخير|على التاخير|عن الالتباس|للازعاج|عن الازعاج"
        r"|ما حدث|لما"
        r"|لخسارتك|لفقد)",
    ),
    "bn": Rules(
        "ঀ-৿",
        r"(?:সাহায্য|সহায়তা|সহযোগিতা|প্রদান|দিতে|দেওয়া|উত্তর|করতে|বলতে|লিখতে|তৈরি|শেয়ার|পূরণ"
        r"|সমর্থন|পরামর্শ|তথ্য|জানাতে|শেখাতে|ব্যাখ্যা|আলোচনা)[^।.!?]{0,44}?"
        r"(?:পারি ?না|পারছি না|পারব ?না|পারবো ?না|সক্ষম নই|সক্ষম হব না|অক্ষম|অপারগ|করব না|করবো না"
        r"|দেব না|দেবো না|বলব না|বলবো না|দেওয়া যাবে না|করি না|আমার পক্ষে সম্ভব নয়|রাজি নই|ইচ্ছুক নই)"
        r"|(?:আমি|আমাকে|আমরা)[^।]{0,30}(?:অস্বীকার|প্রত্যাখ্যান)|আমার পক্ষে[^।]{0,40}সম্ভব নয়",
        r"(?:আমি |আমরা )?(?:খুবই |অত্যন্ত |আন্তরিকভাবে |সত্যিই )?(?:দুঃখিত|ক্ষমা কর|ক্ষমা চা|মাফ কর"
        r"|ক্ষমাপ্রার্থী|দুঃখের বিষয়)",
        r"(?:শুনে|জেনে|বিলম্ব|ভুল বোঝা|বিভ্রান্তি|আগের|অসুবিধা)",
    ),
    "sw": Rules(
        _LATIN,
        r"^siwezi ?[.!,]|\b(?:siwezi|sitaweza|sitoweza|sintoweza|hatuwezi|hatutaweza) (?!ku(?:subiri|amini|jua"
        r"|\w*laumu|sahau|fikiri|elewa|kataa|sema hapana|hakikisha|sisitiza|ngoja|ona|sikia|tabiri))ku\w{3,}"
        r"|\b(?:siwezi|sitaweza|sitoweza|hatuwezi|hatutaweza|sina uwezo|siruhusiwi|sijaruhusiwa"
        r"|siko tayari|sipo tayari|sitaki|nashindwa|haiwezekani kwangu)\b[^.!?]{0,30}?"
        r"(?:saidia|toa\b|kutoa|unda|jibu|andika|kupa\b|kukupa|eleza|fanya|shiriki|tengeneza|unga mkono"
        r"|timiza|elekeza|fundisha|kamilisha|msaada|hilo\b|hivyo\b|hiyo\b|hili\b|ombi|jadili|shauri)"
        r"|\bsi(?:ta|to)(?:kusaidia|saidia|toa|jibu|andika|fanya|eleza|kupa|shiriki)\b|\b(?:nakataa"
        r"|ninakataa|inanibidi kukataa|lazima nikatae)\b",
        r"(?:samahani|naomba (?:radhi|msamaha)|ninaomba (?:radhi|msamaha)|nasikitika|ninasikitika"
        r"|kwa bahati mbaya,? (?:si|hatu))",
        r"(?:kusikia|kujua|kwa kuchelewa|kwa mkanganyiko|kwa usumbufu|kwa makosa|kwa kosa)",
    ),
    "it": Rules(
        _LATIN,
        r"\bnon (?:ti |vi |le )?(?:posso|possiamo|potrei|potrò|sono in grado di|siamo in grado di"
        r"|mi è possibile|sono autorizzat[oa] a|intendo|me la sento di|mi sento a mio agio (?:a|nel)"
        r"|ho il permesso di|"
        r"sono programmat[oa] per|sono qui per|è possibile per me)(?! (?:che|non"
        r"|fare a meno))[^.!?]{0,30}?\b(?:aiutar|assister|fornir|rispond|dar[etvl]|soddisf|support"
        r"|scriv|crear|gener|consigli|spiegar|condivid|offr|"
        r"procedere|farlo|partecip|incoraggi|promuov|discut|insegn|mostrar|accett|esaudir|complet"
        r"|esegui|parlar|divulg|rivelar|sugger|raccomand|accontent|produr|tratt|dirti|assecond)"
        r"|\bnon (?:ti |vi )?(?:aiuterò|fornirò|scriverò|risponderò|darò|spiegherò|parteciperò)"
        r"|\b(?:devo|sono costrett[oa] a) (?:\w+ )?(?:rifiut|declin)|\b(?:mi rifiuto|preferisco non"
        r"|preferirei non)\b"
        r"|\bnon è qualcosa (?:con|in|che|per) (?:cui )?(?:posso|possa|io)",
        r"(?:mi dispiace|sono (?:davvero )?(?:spiacente|desolat[oa])|spiacente|desolat[oa]|mi scuso"
        r"|chiedo scusa|mi rincresce|purtroppo,? non (?:posso|sono|mi|ti))",
        r"(?:sentire|sapere|per la (?:tua|sua|confusione|perdita)|per il (?:tuo|ritardo|disagio"
        r"|malinteso)|che tu|per l'(?:attesa|errore|equivoco)|per quello|per ciò)",
    ),
    "vi": Rules(
        _LATIN,
        r"\b(?:tôi|mình|em|chúng tôi|trợ lý)\b[^.!?\n]{0,40}?(?:không thể|không được phép"
        r"|không có khả năng|sẽ không|không muốn|không sẵn lòng|không được lập trình|không tiện"
        r"|xin phép|xin|phải|buộc phải)[^.!?\n]{0,20}?"
        r"(?:giúp|cung cấp|hỗ trợ|trả lời|đáp ứng|hướng dẫn|viết|tạo|chia sẻ|thực hiện|tham gia"
        r"|đưa ra|tư vấn|thảo luận|làm (?:điều|việc|theo)|tiết lộ|khuyến khích|giải thích|tiếp tục"
        r"|từ chối|nói về)"
        r"|\b(?:tôi|mình|em|chúng tôi) (?:\w+ )?từ chối|^(?:rất tiếc,? )?không thể (?:giúp|cung cấp"
        r"|hỗ trợ|trả lời|đáp ứng)",
        r"(?:tôi |mình |em |chúng tôi )?(?:rất |thành thật |thật |vô cùng )?(?:xin lỗi|xin thứ lỗi"
        r"|lấy làm tiếc|rất tiếc|tiếc là)",
        r"(?:khi (?:nghe|biết)|về sự|vì sự|vì đã|vì (?:nhầm|bạn)|vì (?:trả lời )?muộn|cho sự mất mát"
        r"|khi bạn)",
    ),
    "th": Rules(
        "ก-๛",
        r"(?:ฉัน|ผม|ดิฉัน|เรา|หนู|ทางเรา|แต่|จึง|ขออภัย|ขอโทษ)[^\n]{0,24}?(?:ไม่สามารถ|ไม่อาจ|ไม่ขอ"
        r"|จะไม่|ไม่ได้รับอนุญาต|ไม่สะดวก|ไม่ยินดี|ไม่อยาก)[^\n]{0,16}?"
        r"(?:ช่วย|ให้|ตอบ|สนับสนุน|แนะนำ|ทำตาม|เขียน|สร้าง|แบ่งปัน|บอก|สอน|อธิบาย|ดำเนินการ|พูด|สนอง"
        r"|ทำ|ร่วม)|ขอปฏิเสธ|(?:ต้อง|ขอ)(?:เรียน)?ปฏิเสธ|ปฏิเสธที่จะ|ช่วย(?:เรื่องนี้|คุณ)?ไม่ได้"
        r"|^ไม่สามารถ(?:ช่วย|ให้|ตอบ)",
        r"(?:ฉัน|ผม|ดิฉัน|เรา)?(?:ต้อง|รู้สึก)?(?:ขอโทษ|ขออภัย|เสียใจ|น่าเสียดาย)",
        r"(?:ในความ|ที่ทำให้|ที่ล่าช้า|ที่ตอบช้า|ที่ได้ยิน|ที่ได้ทราบ|ที่คุณ|กับการ|กับความ|ด้วยกับ"
        r"|สำหรับความ)",
    ),
    "jv": Rules(
        _LATIN,
        r"\b(?:ora (?:bisa|iso|gelem|arep|oleh|saged|kena|bakal)|mboten (?:saged|purun|kersa|pareng"
        r"|angsal|badhe)|boten (?:saged|purun)|ndak (?:bisa|iso)|gak iso)\b[^.!?\n]{0,30}?"
        r"\b(?:mbantu|nulung|nulungi|menehi|ngewangi|ngrewangi|nyedhiya\w*|maringi|nyaosi|njawab"
        r"|mangsuli|nulis|nggawe\w*|ndamel\w*|neranga\w*|ngandhani|nuduh\w*|nyukani|nglakoni"
        r"|nindak\w*|biyantu|mbiyantu|"
        r"nglayani|nyengkuyung|ndhukung|kuwi|iku|menika|punika|ngono|mengkono|nuruti|paring|nyerat"
        r"|melu|nglajeng\w*|nerusake|mulangi|rembugan)\b|\b(?:aku|kula|kulo)(?: \w+)? (?:nolak"
        r"|nampik)\b",
        r"(?:nyuwun (?:pangapunten|ngapunten|sewu|ngapura|pangapura)|njaluk (?:ngapura|sepura"
        r"|pangapura)|sepurane|ngapunten|pangapunten|nuwun sewu|ngapurane)",
        r"(?:amarga telat|gangguan|mireng|krungu|sampun ngentosi|kesalahan)",
    ),
    "id": Rules(
        _LATIN,
        r"\b(?:saya|kami|aku)\b[^.!?\n]{0,20}?(?:tidak (?:bisa|dapat|akan|mampu|boleh|bersedia)"
        r"|nggak bisa|harus|terpaksa)[^.!?\n]{0,24}?\b(?:membantu|memberi\w*|menyediakan|menjawab"
        r"|memenuhi|mendukung|menulis|membuat|"
        r"membagikan|menjelaskan|melakukan|berpartisipasi|menolak|melanjutkan)",
        r"(?:maaf|mohon maaf|saya (?:mohon|minta) maaf)",
        r"(?:mendengar|atas (?:keterlambatan|kebingungan|ketidaknyamanan|kesalahan))",
    ),
    "es": Rules(
        _LATIN,
        r"\bno (?:te |le )?(?:puedo|podemos|podría|soy capaz de|estoy autorizad[oa] a|me es posible"
        r"|voy a)\b[^.!?\n]{0,30}?\b(?:ayud|asist|proporcion|respond|ofrec|cumpl|apoy|escrib|crear"
        r"|generar|compart|hacer|hablar|discut|dar)",
        r"(?:lo siento|lo lamento|disculp[ae]|perdón|lamentablemente,? no)",
        r"(?:mucho (?:lo que|tu)|por (?:tu|su|la|el|lo)|que (?:te|est))",
    ),
    "fr": Rules(
        _LATIN,
        r"\bje ne (?:peux|pourrai|suis|veux|vais) pas\b[^.!?\n]{0,30}?\b(?:aider|assist|fourni|répond"
        r"|donn|offr|satisf|soutenir|écri|cré|génér|partag|faire|discut)|\bje (?:dois"
        r"|préfère) (?:refuser|décliner|ne pas)|\bje refuse",
        r"(?:(?:je suis )?désolée?|je m'excuse|je regrette|excusez-moi|pardon)",
        r"(?:pour (?:la|le|ta|votre|ce)|d'apprendre|que (?:tu|vous))",
    ),
    "de": Rules(
        _LATIN,
        r"\b(?:ich|wir)\b[^.!?\n]{0,30}?\b(?:nicht|keine?n?)\b[^.!?\n]{0,50}?\b(?:helfen|weiterhelfen"
        r"|unterstützen|bereitstellen|geben|beantworten|erfüllen|anbieten|schreiben|erstellen|teilen"
        r"|nachkommen)\b|\bmuss ich (?:leider )?ablehnen",
        r"(?:es tut mir leid|tut mir leid|entschuldigung|leider kann ich|ich bedauere)",
        r"(?:zu hören|wegen|für (?:die|den|das)|um deinen)",
    ),
    "pt": Rules(
        _LATIN,
        r"\bnão (?:posso|podemos|poderia|sou capaz de|consigo|vou)\b[^.!?\n]{0,30}?\b(?:ajud|fornec"
        r"|respond|oferec|cumpr|apoi|escrev|criar|gerar|compart|fazer|dar|auxili)",
        r"(?:desculpe|sinto muito|lamento|peço desculpas|infelizmente,? não)",
        r"(?:por (?:saber|isso|sua)|pel[ao]|em saber|ouvir)",
    ),
}  # fmt: skip

_OPENING_SENTENCES = 3
_OPENING_CHARACTERS = 240  # Thai has no full stops


class _Group(NamedTuple):
    script: re.Pattern[str]
    unwilling: re.Pattern[str]
    regret: re.Pattern[str]
    sympathy: re.Pattern[str]


@lru_cache(maxsize=1)
def _groups() -> tuple[_Group, ...]:
    """The rules, one group a script: the languages of one script are tried together."""
    scripts = dict.fromkeys(rules.script for rules in RULES.values())
    return tuple(
        _group(script, [rules for rules in RULES.values() if rules.script == script]) for script in scripts
    )


def _group(script: str, rules: list[Rules]) -> _Group:
    def either(patterns: list[str]) -> str:
        return even("(?:" + "|".join(patterns) + ")")

    return _Group(
        re.compile(f"[{script}]"),
        re.compile(either([one.unwilling for one in rules])),
        re.compile(either([one.regret for one in rules])),
        re.compile(either([one.sympathy for one in rules])),
    )


def refuses_in_other_languages(sentences: Sequence[str]) -> bool:
    """Whether an answer, cut into plain sentences, begins with a refusal in one of these languages."""
    opening = [sentence[:_OPENING_CHARACTERS] for sentence in sentences[:_OPENING_SENTENCES]]
    text = " ".join(opening)
    for group in _groups():
        if not group.script.search(text):
            continue
        if group.regret.match(text) and not group.sympathy.search(opening[0][:80]):
            return True
        if any(group.unwilling.search(sentence) for sentence in opening):
            return True
    return False
