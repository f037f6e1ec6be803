/**
 * The sentence of each reason in Dutch, for the part of a notice that people read. The table of reasons says what a
 * code means; this says the same in the same form: one clause, lower case, without a full stop. The compiler holds it
 * complete. Log and command line stay English.
 */
import type { ReasonCode, Whose } from './reasons.ts';

export const SAYS_NL: Readonly<Record<ReasonCode, string>> = {
  // How it left
  'dane-ee': 'geverifieerd: een DANE-EE-record hoort bij het certificaat van de server',
  'dane-ta':
    'geverifieerd: het certificaat van de server is uitgegeven onder een vertrouwensanker dat via DANE is gepubliceerd',
  'webpki-matched':
    'geverifieerd: het certificaat van de server is van een autoriteit die deze relay vertrouwt, en op zijn naam',
  'pin-matched': 'geverifieerd: de server heeft een sleutel die in de configuratie staat',
  'encrypted-unauthenticated':
    'versleuteld, niet geverifieerd: er is niets bruikbaars gepubliceerd om het certificaat mee te controleren',
  'encrypted-opportunistic': 'versleuteld omdat de mailserver TLS aanbood, niet geverifieerd',
  'clear-not-offered': 'onversleuteld verzonden: de mailserver biedt geen STARTTLS aan en niets eiste het',
  'clear-starttls-refused':
    'onversleuteld verzonden: de mailserver bood STARTTLS aan en weigerde het daarna, en niets eiste het',
  'clear-handshake-failed':
    'onversleuteld verzonden over een nieuwe verbinding: de TLS-handshake mislukte en niets eiste TLS',

  // How it left although DANE failed, because the operator said so
  'exception-authenticated':
    'geverifieerd aan de hand van sleutel of naam; DANE faalde, en een uitzondering van de beheerder laat mail door',
  'exception-encrypted':
    'versleuteld, niet geverifieerd; DANE faalde, en een uitzondering van de beheerder laat mail door',
  'report-authenticated':
    'geverifieerd zoals de configuratie eist; DANE faalde, wat voorlopig alleen wordt gerapporteerd',
  'report-encrypted': 'versleuteld, niet geverifieerd; DANE faalde, wat voorlopig alleen wordt gerapporteerd',
  'report-clear': 'onversleuteld verzonden; DANE faalde, wat voorlopig alleen wordt gerapporteerd',

  // What a host must prove, before anything is dialled
  'tlsa-usable': 'er zijn TLSA-records gepubliceerd: het certificaat moet bij een daarvan horen',
  'tlsa-all-unusable':
    'er zijn TLSA-records gepubliceerd, maar geen ervan is bruikbaar: TLS is verplicht, het certificaat wordt niet gecontroleerd',
  'tlsa-absent': 'er zijn geen TLSA-records gepubliceerd: TLS wordt gebruikt als de mailserver het aanbiedt',
  'tlsa-insecure': 'de TLSA-records zijn niet met DNSSEC beveiligd en tellen niet mee',
  'host-insecure':
    'de adressen van de mailserver zijn niet met DNSSEC beveiligd, daarom wordt niet naar TLSA-records gevraagd',
  'mx-insecure': 'de MX-records zijn niet met DNSSEC beveiligd, daarom is DANE niet van toepassing',
  'literal-address': 'de bestemming is een adres en geen naam, daarom is DANE niet van toepassing',
  'rule-may': 'de configuratie vraagt niet meer dan TLS als de mailserver het aanbiedt',
  'rule-encrypt': 'de configuratie eist TLS voor deze bestemming',
  'rule-verify': 'de configuratie eist een certificaat van een vertrouwde autoriteit, op naam van de mailserver',
  'rule-pin': 'de configuratie eist dat de server een van de sleutels heeft die zij noemt',
  'rule-requiretls': 'de afzender eist TLS met een server die zijn naam bewijst (REQUIRETLS)',
  'rule-tls-optional': 'het bericht zegt TLS-Required: No: TLS wordt geprobeerd en er wordt niets van geëist',
  'sts-enforce':
    'het MTA-STS-beleid van het domein eist een certificaat van een vertrouwde autoriteit, op naam van de mailserver',
  'sts-policy-fetch-error':
    'het domein kondigt MTA-STS-beleid aan dat niet opgehaald kan worden; alleen wat er al van bekend was telt',
  'sts-policy-invalid':
    'het domein kondigt MTA-STS-beleid aan dat niet geldig is; alleen wat er al van bekend was telt',
  'sts-webpki-invalid':
    'de webserver met het MTA-STS-beleid heeft geen geldig certificaat; alleen wat er al van bekend was telt',
  'rule-exception': 'een uitzondering van de beheerder laat mail door waar DANE faalt',
  'rule-report': 'falende DANE wordt voorlopig alleen gerapporteerd, en mail gaat door',

  // DNS
  'mx-lookup-failed': 'de MX-records van het domein konden niet worden opgezocht',
  'address-lookup-failed': 'de adressen van de mailserver konden niet worden opgezocht',
  'tlsa-lookup-failed':
    'de TLSA-records van de mailserver konden niet veilig worden opgezocht, daarom mag die geen mail krijgen',
  'resolver-untrusted': 'onze DNS-resolver is niet bereikbaar of bewijst niet dat hij DNSSEC valideert',
  'null-mx': 'het domein geeft aan dat het geen mail ontvangt (null MX)',
  'no-such-domain': 'het domein bestaat niet',
  'no-mail-host': 'het domein heeft geen MX-records en ook geen adres',
  'invalid-domain': 'dit is geen domeinnaam',
  'host-without-address': 'de mailserver heeft geen adres',
  'host-name-illegal': 'de naam van de mailserver is geen geldige hostnaam',
  'loop-to-self': 'de MX-records leiden terug naar deze relay',
  'own-host': 'deze relay is zelf een mailserver van het domein en geen betere mailserver was bruikbaar',

  // The operator demands DANE
  'dane-only-mx-insecure': 'de configuratie eist DANE en de MX-records zijn niet met DNSSEC beveiligd',
  'dane-only-host-insecure':
    'de configuratie eist DANE en de adressen van de mailserver zijn niet met DNSSEC beveiligd',
  'dane-only-no-tlsa': 'de configuratie eist DANE en er zijn geen met DNSSEC beveiligde TLSA-records gepubliceerd',
  'dane-only-unusable': 'de configuratie eist DANE en geen van de gepubliceerde TLSA-records is bruikbaar',
  'dane-only-literal': 'de configuratie eist DANE en de bestemming is een adres, waarvoor DANE niet bestaat',
  'verify-literal': 'de configuratie eist een certificaat op naam van de mailserver en de bestemming is een adres',

  // Connection
  'connect-failed': 'er kwam geen verbinding met de mailserver tot stand',
  'host-busy': 'er zijn al zo veel berichten naar de mailserver onderweg als deze relay tegelijk verstuurt',
  'connection-lost': 'de verbinding werd verbroken',
  'remote-timeout': 'de mailserver antwoordde niet op tijd',
  'greeting-refused': 'de mailserver wees de verbinding af',
  'ehlo-refused': 'de mailserver weigerde onze EHLO',
  'remote-garbage': 'de mailserver antwoordde iets wat geen SMTP is',

  // TLS
  'starttls-not-offered': 'TLS is verplicht en de mailserver biedt geen STARTTLS aan',
  'starttls-refused': 'TLS is verplicht en de mailserver weigerde STARTTLS',
  'tls-handshake-failed': 'de TLS-handshake mislukte',
  'tls-too-weak':
    'TLS is vereist en wat met de mailserver is afgesproken, is onvoldoende volgens de richtlijnen van het NCSC',
  'tls-injection': 'iemand heeft onversleutelde tekst tussen STARTTLS en de handshake gevoegd',
  'greeting-refused-before-tls': 'de mailserver wees ons af voordat TLS was bewezen, daarom telt wat hij zegt niet',

  // What the sender demands (RFC 8689)
  'requiretls-not-offered': 'de afzender eist REQUIRETLS en de mailserver biedt dat niet aan',
  'requiretls-not-proven':
    'de afzender eist TLS met een server die zijn naam bewijst (REQUIRETLS), en die is er niet te vinden',

  // The certificate against the TLSA records
  'tlsa-mismatch': 'het certificaat van de server hoort bij geen van de TLSA-records',
  'tlsa-name-mismatch':
    'het certificaat is uitgegeven onder het gepubliceerde vertrouwensanker, maar voor andere namen',
  'tlsa-expired': 'een certificaat op weg naar het gepubliceerde vertrouwensanker is op dit moment niet geldig',
  'tlsa-not-trusted': 'de certificaten die de server stuurde leiden niet naar het gepubliceerde vertrouwensanker',
  'tlsa-no-usable-record':
    'geen TLSA-record is bruikbaar: TLS zou verplicht zijn en het certificaat niet worden gecontroleerd',
  'tlsa-bad-chain': 'de server stuurde geen certificaat, of iets wat er geen is',

  // The certificate against public authorities and pins
  'webpki-not-trusted': 'het certificaat van de server leidt niet naar een autoriteit die deze relay vertrouwt',
  'webpki-expired': 'een certificaat op de weg naar een vertrouwde autoriteit is op dit moment niet geldig',
  'webpki-name-mismatch': 'het certificaat van de server is van een vertrouwde autoriteit, maar op andere namen',
  'sts-mx-not-listed': 'het MTA-STS-beleid van het domein noemt deze mailserver niet, dus die mag geen mail krijgen',
  'pin-mismatch': 'de sleutel van de server is geen van de sleutels die de beheerder heeft genoemd',

  // What the remote host said
  'remote-accepted': 'de mailserver heeft het bericht aangenomen',
  'remote-later': 'de mailserver vraagt om het later opnieuw te proberen',
  'remote-refused': 'de mailserver weigerde het bericht',
  'remote-too-many-recipients': 'de mailserver neemt minder ontvangers tegelijk aan; de andere volgen',
  'size-over-remote-limit': 'het bericht is groter dan de mailserver aanneemt',
  'eight-bit-unsupported': 'het bericht bevat 8-bits tekens en de mailserver kan die niet aannemen',
  'utf8-address-unsupported': 'een adres vereist SMTPUTF8 en de mailserver biedt dat niet aan',
  'utf8-header-unsupported': 'de kopregels vereisen SMTPUTF8 en de mailserver biedt dat niet aan',
  'address-unsendable': 'het adres kan niet in SMTP worden uitgedrukt',

  // The queue
  'not-tried-yet': 'aangenomen, nog niet geprobeerd',
  'lifetime-over': 'het bericht kon niet worden afgeleverd binnen de tijd die daarvoor staat',
  'tls-lifetime-over': 'de mailserver voldeed niet aan het TLS-beleid binnen de tijd die deze relay daarvoor geeft',
  'internal-error': 'een fout in deze relay onderbrak de poging; het bericht is veilig en wacht',
  'stored-message-unreadable':
    'het bericht komt niet van onze schijf terug zoals het is aangenomen; zo wordt het niet verzonden, en het wacht',
  'dkim-key-unusable':
    'het bericht moet met DKIM worden ondertekend en een sleutel van zijn domein kan niet worden gebruikt',
  'dkim-key-unpublished':
    'het bericht moet met DKIM worden ondertekend en de sleutel staat niet in de DNS, zodat niemand de handtekening zou kunnen controleren',
  'tls-setup-failed': 'TLS kon aan onze kant niet worden ingesteld',

  // At the door
  'intake-accepted': 'aangenomen en veilig opgeslagen',
  'client-unknown': 'deze client staat niet in de configuratie',
  'client-needs-tls': 'deze client moet TLS gebruiken',
  'requiretls-without-tls': 'om REQUIRETLS kan alleen onder TLS worden gevraagd',
  'client-certificate-missing': 'deze client moet het vastgelegde certificaat tonen',
  'client-certificate-unknown': 'het certificaat van deze client heeft een andere pin dan in de configuratie staat',
  'sender-not-allowed': 'deze client mag niet namens dat domein verzenden',
  'too-many-connections': 'te veel verbindingen tegelijk',
  'too-many-messages': 'deze client heeft voorlopig zo veel berichten verzonden als is toegestaan',
  'too-many-recipients': 'te veel ontvangers voor één bericht',
  'message-too-big': 'het bericht is groter dan deze relay aanneemt',
  'message-has-nul': 'het bericht bevat een NUL-teken',
  'message-has-bare-newline': 'het bericht bevat een losse CR of een losse LF',
  'message-line-too-long': 'het bericht bevat een regel die langer is dan deze relay aanneemt',
  'too-many-hops': 'het bericht is al langs te veel servers gekomen: het gaat in een kring rond',
  'command-unknown': 'dit commando is niet bekend',
  'command-unsupported': 'dit commando wordt hier niet aangeboden',
  'command-malformed': 'dit is geen commandoregel',
  'no-valid-recipients': 'geen enkele ontvanger is aangenomen',
  'too-many-errors': 'te veel commando’s die nergens toe leiden',
  'wrong-protocol': 'deze poort spreekt SMTP en begint zonder TLS',
  'command-syntax': 'dit commando heeft een verkeerd argument',
  'command-order': 'dit commando kan hier niet komen',
  'parameter-unknown': 'deze parameter is niet bekend',
  'sender-address-bad': 'het adres van de afzender is niet geldig',
  'recipient-address-bad': 'het adres van de ontvanger is niet geldig',
  'smtputf8-undeclared': 'het adres bevat tekens buiten ASCII en om SMTPUTF8 is niet gevraagd',
  'storage-failed': 'het bericht kon niet veilig worden opgeslagen, daarom is het niet aangenomen',
  'storage-full': 'er is geen ruimte om het bericht op te slaan',
  'shutting-down': 'deze relay wordt gestopt',
  'client-timeout': 'de client zweeg te lang',
};

/** Who can put it right, in one sentence; empty when there is nothing to put right. */
export const REMEDY_NL: Readonly<Record<Whose, string>> = {
  recipient: 'De beheerder van de ontvanger kan dit oplossen.',
  sender: 'De afzender of de beheerder van de afzender kan dit oplossen.',
  us: 'De beheerder van deze relay kan dit oplossen.',
  network: 'Dit is een storing tussen deze relay en de ontvanger; vaak gaat die vanzelf over.',
  nobody: '',
};
