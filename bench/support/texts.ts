// Messages in ten languages, as like real ones as random text can be: few words are common, most are rare.

export type Language = { readonly name: string; sentence(random: () => number): string };

/** Words that everybody uses, and endings by which there are some thousands more. */
const SPACED: Readonly<Record<string, { readonly common: string; readonly stems: string; readonly endings: string }>> =
  {
    english: {
      common: "the to of and a in is it you that for on with this be are have not we can",
      stems:
        "ship order parcel return invoice account meet plan deploy review budget ticket server report launch travel",
      endings: "- s ed ing er ment able ful less ness ly ize ation al ity board side point ward time",
    },
    german: {
      common: "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als",
      stems:
        "Lieferung Rechnung Bestellung Versand Kunde Zahlung Konto Termin Besprechung Projekt Straße Änderung Prüfung",
      endings:
        "- s adresse nummer bestätigung zeit dienst leitung verfahren ordnung gesellschaft kapitän mütze verwaltung",
    },
    french: {
      common: "le de un être et à il avoir ne je son que se qui ce dans en du elle au",
      stems: "commande facture livraison réunion équipe déjà projet adresse paiement client élève forêt garçon",
      endings: "- s r rait rions ment eur euse age ité ique able issement elle ette",
    },
    russian: {
      common: "и в не на я быть он с что а по это она этот к но они мы весь который",
      stems: "заказ счёт доставк встреч проект адрес оплат клиент отчёт сервер вопрос ответ",
      endings: "- а ы ов ом ами ный ная ние ения ник ница ство ский ально",
    },
    arabic: {
      common: "في من على إلى أن هذا التي الذي عن مع كان ما لا هو هي بعد قبل كل بين ثم",
      stems: "طلب فاتورة شحن اجتماع مشروع عنوان دفع عميل تقرير خادم سؤال جواب",
      endings: "- ات ين ون ها هم نا كم ية ي ان تين",
    },
    hindi: {
      common: "के में है की से का को और पर ने यह एक कि हो था ही जो तो भी नहीं",
      stems: "आदेश चालान बैठक परियोजना पता भुगतान ग्राहक रिपोर्ट सवाल जवाब",
      endings: "- ों ें ा ी े वाला कर दार पन ता",
    },
  };
/** Characters of scripts without spaces between words: the first are common. */
const UNSPACED = {
  chinese: [0x4e00, 3_000],
  japanese: [0x3042, 80],
  korean: [0xac00, 2_000],
  thai: [0x0e01, 46],
} as const;

/** The nth word or character is about half as common as the one at n / 2. */
const skewed = (random: () => number, count: number): number => Math.floor(count ** random()) - 1;

const pick = <T>(values: readonly T[], random: () => number): T => values[Math.floor(random() * values.length)] as T; // below the length

function spaced(
  name: string,
  parts: { readonly common: string; readonly stems: string; readonly endings: string },
): Language {
  const [common, stems, endings] = [parts.common, parts.stems, parts.endings].map((text) => text.split(" ")) as [
    string[],
    string[],
    string[],
  ];
  return {
    name,
    sentence(random) {
      const words = Array.from({ length: 5 + Math.floor(random() * 15) }, () => {
        if (random() < 0.45) return common[skewed(random, common.length)] ?? "";
        const ending = () => pick(endings, random).replace("-", "");
        return `${pick(stems, random)}${ending()}${random() < 0.5 ? ending() : ""}${random() < 0.05 ? Math.floor(random() * 100_000) : ""}`;
      });
      return `${words.join(" ")}.`;
    },
  };
}

const unspaced = (name: string, first: number, count: number): Language => ({
  name,
  sentence: (random) =>
    Array.from({ length: 10 + Math.floor(random() * 30) }, () =>
      random() < 0.05 ? "、" : String.fromCodePoint(first + skewed(random, count)),
    ).join(""),
});

export const LANGUAGES: readonly Language[] = [
  ...Object.entries(SPACED).map(([name, parts]) => spaced(name, parts)),
  ...Object.entries(UNSPACED).map(([name, [first, count]]) => unspaced(name, first, count)),
];

/** Numbers from 0 to 1 that are the same in every run. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
