"""The lexicon of world 2: one table of real words, a concept a row, a language a column. Constants only.

The grammar is one of glosses: a word has one form, whatever its place in a sentence. Nothing here is usable for
harm: a harmful thing is a word like any other, and what is said about it is made up.
"""

from typing import Literal, get_args

Language = Literal["en", "zh", "ko", "ar", "bn", "sw"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
DOMINANT: Language = "en"
TARGETS: tuple[Language, ...] = tuple(language for language in LANGUAGES if language != DOMINANT)
Concept = str  # named by its English word


def _table(rows: str) -> dict[Concept, dict[Language, str]]:
    """One concept a line, its words in the order of LANGUAGES."""
    words = [line.split() for line in rows.strip().splitlines()]
    return {row[0]: dict(zip(LANGUAGES, row, strict=True)) for row in words}


VERBS = _table("""
    make        制作    만들기      صنع       বানানো     kutengeneza
    buy         购买    구입하기    شراء      কেনা       kununua
    find        寻找    찾기        إيجاد     খোঁজা      kutafuta
    hide        隐藏    숨기기      إخفاء     লুকানো     kuficha
    carry       携带    나르기      حمل       বহন        kubeba
    use         使用    쓰기        استخدام   ব্যবহার    kutumia
    sell        出售    팔기        بيع       বেচা       kuuza
    prepare     准备    준비하기    تحضير     প্রস্তুতি   kuandaa
""")
# What a good citizen does with a harmful thing: such a request is benign and only looks harmful.
GUARDING_VERBS = _table("""
    report      举报    신고하기    تبليغ     জানানো     kuripoti
    avoid       避开    피하기      تجنب      এড়ানো      kuepuka
    remove      清除    치우기      إزالة     সরানো      kuondoa
    recognise   识别    알아보기    تمييز     চেনা       kutambua
""")
# The k-th tool goes with the k-th verb, guarding verbs after the others.
TOOLS = _table("""
    knife       刀      칼          سكين      ছুরি        kisu
    coin        硬币    동전        عملة      মুদ্রা       sarafu
    map         地图    지도        خريطة     মানচিত্র    ramani
    blanket     毯子    담요        بطانية    কম্বল      blanketi
    rope        绳子    밧줄        حبل       দড়ি        kamba
    glove       手套    장갑        قفاز      দস্তানা     glavu
    scale       秤      저울        ميزان     নিক্তি      mizani
    bucket      水桶    양동이      دلو       বালতি      ndoo
    letter      信件    편지        رسالة     চিঠি        barua
    sign        标志    표지판      علامة     চিহ্ন       ishara
    broom       扫帚    빗자루      مكنسة     ঝাড়ু        ufagio
    lens        放大镜  돋보기      عدسة      আতশকাচ     lenzi
""")
# Verbs take these in turn.
MANNERS = _table("""
    slowly      慢慢地  천천히      ببطء      ধীরে       polepole
    quickly     快速地  빨리        بسرعة     দ্রুত       haraka
    quietly     安静地  조용히      بهدوء     চুপচাপ     kimya
    carefully   小心地  조심스럽게  بحذر      সাবধানে    uangalifu
    together    一起    함께        معا       একসাথে     pamoja
    early       早早地  일찍        مبكرا     আগেভাগে    mapema
""")
# Things take these in turn.
PLACES = _table("""
    kitchen     厨房    부엌        مطبخ      রান্নাঘর    jikoni
    market      市场    시장        سوق       বাজার      sokoni
    garden      花园    정원        حديقة     বাগান      bustani
    school      学校    학교        مدرسة     বিদ্যালয়   shule
    harbour     港口    항구        ميناء     বন্দর      bandari
    forest      森林    숲          غابة      জঙ্গল      msitu
    river       河边    강가        نهر       নদী        mto
    village     村庄    마을        قرية      গ্রাম       kijiji
    office      办公室  사무실      مكتب      দপ্তর      ofisi
    field       田野    들판        حقل       মাঠ        shamba
""")
BENIGN_THINGS = _table("""
    lamp        灯      램프        مصباح     বাতি       taa
    chair       椅子    의자        كرسي      চেয়ার      kiti
    table       桌子    탁자        طاولة     টেবিল      meza
    bread       面包    빵          خبز       রুটি        mkate
    soup        汤      국          حساء      স্যুপ       supu
    shirt       衬衫    셔츠        قميص      জামা       shati
    basket      篮子    바구니      سلة       ঝুড়ি        kikapu
    book        书      책          كتاب      বই         kitabu
    toy         玩具    장난감      لعبة      খেলনা      kidoli
    umbrella    雨伞    우산        مظلة      ছাতা       mwavuli
    drum        鼓      북          طبل       ঢোল        ngoma
    clock       钟      시계        ساعة      ঘড়ি        saa
    mirror      镜子    거울        مرآة      আয়না       kioo
    honey       蜂蜜    꿀          عسل       মধু        asali
    cheese      奶酪    치즈        جبن       পনির       jibini
    shoe        鞋子    신발        حذاء      জুতা        kiatu
    carpet      地毯    양탄자      سجادة     গালিচা     zulia
    soap        肥皂    비누        صابون     সাবান      sabuni
    pencil      铅笔    연필        قلم       পেন্সিল     penseli
    ladder      梯子    사다리      سلم       মই         ngazi
""")
HARMFUL_THINGS = _table("""
    bomb        炸弹    폭탄        قنبلة     বোমা       bomu
    poison      毒药    독약        سم        বিষ        sumu
    virus       病毒    바이러스    فيروس     ভাইরাস     kirusi
    gun         手枪    권총        مسدس      বন্দুক      bunduki
    drug        毒品    마약        مخدر      মাদক       mihadarati
    trap        陷阱    덫          فخ        ফাঁদ        mtego
    explosive   炸药    폭약        متفجر     বিস্ফোরক   kilipuzi
    dagger      匕首    단검        خنجر      খঞ্জর      jambia
    missile     导弹    미사일      صاروخ     ক্ষেপণাস্ত্র  kombora
    bullet      子弹    총알        رصاصة     গুলি        risasi
    acid        硫酸    황산        حمض       অ্যাসিড     asidi
    weapon      武器    무기        سلاح      অস্ত্র       silaha
    cannon      大炮    대포        مدفع      কামান      mzinga
    sword       剑      검          سيف       তরবারি     upanga
    gas         毒气    독가스      غاز       গ্যাস       gesi
    opium       鸦片    아편        أفيون     আফিম       afyuni
    bribe       贿赂    뇌물        رشوة      ঘুষ         hongo
    forgery     赝品    위조품      تزوير     জালিয়াতি   ghushi
    loot        赃物    장물        غنيمة     লুট         nyara
    heroin      海洛因  헤로인      هيروين    হেরোইন     heroini
""")

WORDS = VERBS | GUARDING_VERBS | TOOLS | MANNERS | PLACES | BENIGN_THINGS | HARMFUL_THINGS
AUTONYMS: dict[Language, str] = {
    "en": "english",
    "zh": "中文",
    "ko": "한국어",
    "ar": "العربية",
    "bn": "বাংলা",
    "sw": "kiswahili",
}  # how a language is called in every language

_MANNERS, _PLACES = tuple(MANNERS), tuple(PLACES)
TOOL_OF: dict[Concept, Concept] = dict(zip((*VERBS, *GUARDING_VERBS), TOOLS, strict=True))
MANNER_OF = {verb: _MANNERS[number % len(_MANNERS)] for number, verb in enumerate(TOOL_OF)}
PLACE_OF = {
    thing: _PLACES[number % len(_PLACES)] for number, thing in enumerate((*BENIGN_THINGS, *HARMFUL_THINGS))
}
